/** Two readings of one text, whose tokens differ, beside each other. */
import { describe, expect, it } from 'vitest'
import type { DriftCell } from '../src/api/drift'
import { apartOf, beside, bitsPerByte, cellOf, driftRows, over } from '../src/core/drift'
import { Trace } from '../src/core/trace'
import { node, step } from './made'

function trace(parts: string[], surprisal: (number | null)[]): Trace {
  const made = new Trace(node('n'))
  made.append(step(0, parts, { columns: { surprisal, rank: surprisal } }))
  return made
}
const cell = (a: [number, number], b: [number, number], more: Partial<DriftCell> = {}): DriftCell => ({
  a,
  b,
  category: 'identifier',
  flip: null,
  apart: null,
  ...more,
})

// "de" "f" " f(x)" beside "def" " f(" "x)"
const a = trace(['de', 'f', ' f(x)'], [null, 1, 2])
const b = trace(['def', ' f(', 'x)'], [3, 4, 5])
const cells = [cell([0, 2], [0, 1]), cell([2, 3], [1, 3], { flip: true })]

describe('cells', () => {
  it('adds up what adds up and averages the rest', () => {
    expect(over(b, 'surprisal', [1, 3])).toBe(9)
    expect(over(b, 'rank', [1, 3])).toBe(4.5)
    expect(over(a, 'surprisal', [0, 1])).toBeNaN()
  })
  it('finds the cell of a token', () => {
    expect([0, 1, 2, 3].map((t) => cellOf(cells, t))).toEqual([0, 0, 1, -1])
  })
  it('shares by bytes what stands on the other side', () => {
    const there = beside(a, b, 'surprisal', cells)
    expect([...there].map((v) => Number(v.toFixed(4)))).toEqual([2, 1, 9])
    expect([...beside(a, b, 'rank', cells)]).toEqual([3, 3, 4.5])
  })
  it('counts bits per byte of the same bytes on both sides', () => {
    const bits = bitsPerByte(a, b, cells)
    expect(bits.bytes).toBe(8)
    expect(bits.a).toBeCloseTo(3 / Math.LN2 / 8, 10)
    expect(bits.b).toBeCloseTo(12 / Math.LN2 / 8, 10)
    const unknown = bitsPerByte(trace(['def'], [null]), trace(['def'], [1]), [cell([0, 1], [0, 1])])
    expect(unknown.bytes).toBe(0)
    expect(unknown.a).toBeNaN()
  })
  it('keeps a row per cell, nothing for what is not known', () => {
    const apart = { kl: null, tv_low: 0.25, tv_high: 1, exact: false, over: 'bytes' as const }
    const rows = driftRows(a, b, ['surprisal'], [cells[0], { ...cells[1], apart }])
    expect(rows[1]).toMatchObject({ text: ' f(x)', token_b: 1, flip: 1, kl: null, tv_low: 0.25, surprisal_difference: 7 })
    expect(rows[0]).toMatchObject({ text: 'def', flip: null, tv_low: null, surprisal_a: 1, surprisal_b: 3 })
    expect(apartOf({ ...cells[1], apart }, 'bytes')).toBe(0.25)
    expect(apartOf({ ...cells[1], apart }, 'tokens')).toBeNaN()
  })
})
