import { expect, test } from 'vitest'
import { FEW, rowsInSight, scrolledTo } from '../src/core/rows'

test('a short list is there in full', () => {
  expect(rowsInSight(FEW, 40, 0, 400)).toEqual({ first: 0, end: FEW, above: 0, below: 0 })
  expect(rowsInSight(0, 40, 0, 400)).toEqual({ first: 0, end: 0, above: 0, below: 0 })
})

test('of a long list: what is in sight, some beyond, and the height of all of it', () => {
  const [count, row, height] = [500, 40, 410]
  for (let top = 0; top <= count * row - height; top += 7) {
    const { first, end, above, below } = rowsInSight(count, row, top, height)
    expect(first * row).toBeLessThanOrEqual(top)
    expect(end * row).toBeGreaterThanOrEqual(top + height)
    expect(end - first).toBeLessThan(40)
    expect(above + (end - first) * row + below).toBe(count * row)
  }
})

test('scrolled further than the list is long (rows were deleted): nothing is negative', () => {
  const { first, end, above, below } = rowsInSight(130, 40, 19_000, 400)
  expect([first, end, below]).toEqual([130, 130, 0])
  expect(above).toBe(130 * 40)
})

test('a row is brought into sight by the shortest way', () => {
  expect(scrolledTo(0, 40, 900, 400)).toBe(0)
  expect(scrolledTo(30, 40, 900, 400)).toBe(900)
  expect(scrolledTo(40, 40, 900, 400)).toBe(41 * 40 - 400)
  expect(scrolledTo(3, 40, 0, 400)).toBe(0)
})
