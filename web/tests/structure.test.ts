import { describe, expect, it } from 'vitest'
import type { StructureResponse } from '../src/api/structure'
import { icicle, step } from '../src/core/icicle'
import { byKind, byLeaf, histogram, over, overRegions } from '../src/core/rollup'
import { lastNotAbove, Syntax } from '../src/core/syntax'

const EXPRESSION = 1
const STATEMENT = 2
const FUNCTION = 8
const FILE = 32

/**
 * `f: ab\n` + ` cd`: a file of 8 bytes with a function (0..8) that holds the statements `ab` (3..5)
 * and `cd` (6..8); `b` (4..5) is an expression. Tokens: `f: a` | `b\n ` (7 bytes on) | `cd`.
 */
function tree(): Syntax {
  const raw: StructureResponse = {
    language: 'toy',
    tokens: 3,
    kinds: ['file', 'function', 'statement', 'name'],
    kind: [0, 1, 2, 3, 2],
    level: [FILE, FUNCTION, STATEMENT, EXPRESSION, STATEMENT],
    category: [0, 0, 0, 2, 0],
    start: [0, 0, 3, 4, 6],
    end: [8, 8, 5, 5, 8],
    parent: [-1, 0, 1, 2, 1],
    error: [],
    missing: [],
    names: { 1: 'f' },
    cell_start: [0, 3, 4, 5, 6, 8],
    cell_token: [0, 0, 1, 1, 2],
    cell_region: [1, 2, 3, 1, 4],
    cell_category: [0, 0, 2, 12, 0],
    cost_ms: 0,
  }
  return new Syntax(raw)
}

describe('the tree', () => {
  it('finds the deepest region and the path to it', () => {
    const syntax = tree()
    expect(syntax.innermost(4)).toBe(3)
    expect(syntax.innermost(5)).toBe(1)
    expect(syntax.path(3)).toEqual([0, 1, 2, 3])
    expect(syntax.name(1)).toBe('f')
    expect(lastNotAbove([0, 2, 2, 5], 2)).toBe(2)
    expect(lastNotAbove([3], 1)).toBe(-1)
  })

  it('knows the cells and tokens of a region, and the region of a token', () => {
    const syntax = tree()
    expect(syntax.cells(2)).toEqual([1, 3])
    expect(syntax.tokens(2)).toEqual({ first: 0, last: 1 })
    expect(syntax.cellsOfToken(1)).toEqual([2, 4])
    expect(syntax.regionOfToken(0)).toBe(1)
    expect(syntax.regionOfToken(9)).toBe(-1)
  })

  it('finds the nearest of a level', () => {
    expect([...tree().nearest(STATEMENT)]).toEqual([-1, -1, 2, 2, 4])
    expect([...tree().nearest(STATEMENT | FUNCTION)]).toEqual([-1, 1, 2, 2, 4])
  })
})

describe('roll-ups', () => {
  const values = Float32Array.from([1, 3, 5])

  it('weights the mean by bytes and counts split tokens in part', () => {
    const syntax = tree()
    const statement = over(syntax, values, [syntax.cells(2)], 0, 'mean')
    expect(statement.value).toBeCloseTo((1 * 1 + 3 * 1) / 2)
    expect(statement.count).toBe(2)
    expect(statement.std).toBeCloseTo(1)
    expect(over(syntax, values, [syntax.cells(2)], 0, 'sum').value).toBeCloseTo(1 / 4 + 3 / 2)
    expect(over(syntax, values, [syntax.cells(0)], 0, 'sum').value).toBeCloseTo(9)
    expect(over(syntax, values, [syntax.cells(0)], 0, 'top').value).toBeCloseTo(3)
    expect(over(syntax, values, [syntax.cells(0)], 0, 'max').value).toBe(5)
    expect(over(syntax, values, [syntax.cells(0)], 0, 'min').value).toBe(1)
  })

  it('leaves out the prompt and what is undefined', () => {
    const syntax = tree()
    const gaps = Float32Array.from([1, NaN, 5])
    expect(over(syntax, gaps, [syntax.cells(0)], 1, 'mean')).toMatchObject({ value: 5, count: 1 })
    expect(over(syntax, gaps, [syntax.cells(3)], 0, 'mean').value).toBeNaN()
  })

  it('gives a number to every region of a level', () => {
    const of = overRegions(tree(), values, STATEMENT, 0, 'mean')
    expect(of[2]).toBeCloseTo(2)
    expect(of[4]).toBeCloseTo(5)
    expect(of[0]).toBeNaN()
  })

  it('puts kinds together, each cell once', () => {
    const rows = byKind(tree(), values, STATEMENT, 0, 'mean')
    expect(rows).toHaveLength(1)
    expect(rows[0]).toMatchObject({ kind: 'statement', regions: 2, count: 3 })
    expect(rows[0].value).toBeCloseTo((1 + 3 + 5 * 2) / 4)
    const leaves = byLeaf(tree(), values, (c) => (c === 3 ? 'blank' : 'ink'), 0, 'mean')
    expect(leaves.map((r) => r.kind)).toEqual(['ink', 'blank'])
  })

  it('counts into bins', () => {
    expect(histogram([-1, 0, 0.4, 0.6, 1, 9], 0, 1, 2)).toEqual([3, 3])
  })
})

describe('the icicle', () => {
  const all = EXPRESSION | STATEMENT | FUNCTION | FILE

  it('has widths by tokens or bytes, and children inside parents', () => {
    const { boxes, rows } = icicle(tree(), 0, all, 'tokens', 0)
    expect(rows).toBe(4)
    expect(boxes.map((b) => b.region)).toEqual([0, 1, 2, 3, 4])
    const statement = boxes.find((b) => b.region === 2)!
    expect(statement.width).toBeCloseTo((1 / 4 + 1 / 2) / 3)
    const bytes = icicle(tree(), 0, all, 'bytes', 0).boxes.find((b) => b.region === 4)!
    expect(bytes).toMatchObject({ left: 6 / 8, width: 2 / 8, row: 2 })
  })

  it('zooms, and leaves out what is too narrow', () => {
    const zoomed = icicle(tree(), 2, all, 'bytes', 0).boxes
    expect(zoomed.map((b) => [b.region, b.left, b.width])).toEqual([
      [2, 0, 1],
      [3, 0.5, 0.5],
    ])
    expect(icicle(tree(), 0, all, 'bytes', 0.2).boxes.map((b) => b.region)).toEqual([0, 1, 2, 4])
  })

  it('is walked with arrows', () => {
    const { boxes } = icicle(tree(), 0, all, 'bytes', 0)
    expect(step(boxes, 2, 'ArrowRight')).toBe(4)
    expect(step(boxes, 4, 'ArrowLeft')).toBe(2)
    expect(step(boxes, 2, 'ArrowUp')).toBe(1)
    expect(step(boxes, 1, 'ArrowDown')).toBe(2)
    expect(step(boxes, 4, 'ArrowDown')).toBe(4)
  })
})
