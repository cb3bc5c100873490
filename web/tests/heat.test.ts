import { expect, test } from 'vitest'
import { cellAt, grid } from '../src/draw/heat'

test('rows of the wire become a grid from the first column that differs', () => {
  const g = grid(
    [
      [0, 0.25, null],
      [0, 0.5, 1],
    ],
    1,
  )
  expect([g.rows, g.columns]).toEqual([2, 2])
  expect(Array.from(g.values)).toEqual([0.25, NaN, 0.5, 1])
  expect(grid([], 3)).toMatchObject({ rows: 0, columns: 0 })
})

test('the first layer is at the bottom', () => {
  const g = grid([[0, 0], [1, 1]], 0)
  const cell = { width: 10, height: 8 }
  expect(cellAt(g, cell, 12, 15)).toEqual({ row: 0, column: 1 })
  expect(cellAt(g, cell, 0, 0)).toEqual({ row: 1, column: 0 })
  expect(cellAt(g, cell, 20, 0)).toBeNull()
  expect(cellAt(g, cell, 0, 16)).toBeNull()
})
