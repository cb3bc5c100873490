import { describe, expect, it } from 'vitest'
import { diverging, reach, side } from '../src/core/diverging'
import { contrast, parseHex, STEPS } from '../src/core/ramp'
import { band, held, levelsOf, partGrid, path, readSurvey, regionBars, shade, strongest, topOf, zoomed } from '../src/core/explain'

describe('the diverging scale', () => {
  it('has its middle at zero and its ends at the reach', () => {
    expect(side(0, 2)).toBe(Math.round((STEPS - 1) / 2))
    expect(side(2, 2)).toBe(STEPS - 1)
    expect(side(-9, 2)).toBe(0)
    expect(side(NaN, 2)).toBe(-1)
    expect(reach([0.5, null, -3, 1])).toBe(3)
  })
  it('keeps text readable on every step, in both themes', () => {
    for (const theme of ['light', 'dark'] as const) {
      const { fill, ink } = diverging(theme)
      fill.forEach((f, i) => expect(contrast(parseHex(f), parseHex(ink[i]))).toBeGreaterThan(4.5))
    }
  })
})

describe('parts', () => {
  const rows = [
    { part: 'embedding', layer: -1, head: -1, value: 0.5 },
    { part: 'mlp', layer: 1, head: -1, value: -2 },
    { part: 'head', layer: 0, head: 1, value: 1 },
    { part: 'head', layer: 0, head: 0, value: 0.25 },
    { part: 'attention_bias', layer: 0, head: -1, value: 0.1 },
  ]
  it('are laid out by layer', () => {
    const grid = partGrid(rows, 'value')
    expect(grid.layers.map((l) => l.layer)).toEqual([0, 1])
    expect(grid.layers[0].heads).toEqual([0.25, 1])
    expect(grid.layers[0].other).toBeCloseTo(0.1)
    expect(grid.layers[1].mlp).toBe(-2)
    expect(grid.rest).toEqual([{ title: 'embedding', value: 0.5 }])
    expect([grid.heads, grid.most]).toEqual([2, 2])
  })
})

describe('regions', () => {
  it('are named, filtered by level and cut', () => {
    const rows = [
      { level: 'line', kind: 'line', name: null, start: 0, end: 9, line: 3, value: 2 },
      { level: 'statement', kind: 'return_statement', name: null, start: 0, end: 9, line: 3, value: 1 },
    ]
    expect(levelsOf(rows)).toEqual(['line', 'statement'])
    expect(regionBars(rows, 'line')[0].title).toBe('line 3')
    expect(regionBars(rows, 'statement')[0].title).toBe('return statement')
    expect(regionBars(rows, 'line', 0)).toEqual([])
  })
})

describe('curves', () => {
  const frame = { width: 100, height: 50, lo: -1, hi: 1 }
  it('run upwards', () => {
    expect(path([0, 1], [-1, 1], frame)).toBe('M0.0 50.0L100.0 0.0')
    expect(band([0, 1], [-1, -1], [1, 1], frame)).toBe('M0.0 50.0L100.0 50.0L100.0 0.0L0.0 0.0Z')
  })
})

describe('the survey', () => {
  it('is read from octets', () => {
    const numbers = [1, 2, 3, 4] // one statistic, 1 layer, 4 heads
    const buffer = new ArrayBuffer(4 * 4 + 4 + 4 * 4 * 4)
    new Float32Array(buffer, 0, 4).set(numbers)
    new Int32Array(buffer, 16, 1).set([7])
    new Float32Array(buffer, 20, 16).fill(0.5)
    const headers = new Headers({ 'x-heads-shape': '1,1,4,2', 'x-heads-layers': '2', 'x-heads-cell': '9' })
    const s = readSurvey(buffer, headers, ['sink'])
    expect([...s.statistics.get('sink')!]).toEqual(numbers)
    expect([s.counts.get('sink'), s.layers, s.cell, s.pictures.length]).toEqual([7, [2], 9, 16])
    expect(() => readSurvey(buffer, headers, ['sink', 'more'])).toThrow(RangeError)
  })
  it('has a scale that a few heavy rows do not wash out', () => {
    const values = new Float32Array(10_000).fill(0.01)
    values.fill(1, 0, 10)
    expect(topOf(values)).toBeLessThan(0.02)
    expect(topOf(new Float32Array(4))).toBe(0)
    expect(topOf(Float32Array.from([0.5]))).toBeCloseTo(0.5)
  })
  it('knows its strongest head', () => {
    const s = { layers: [1, 3], heads: 2, statistics: new Map([['sink', Float32Array.from([0, 0.1, 0.9, NaN])]]) }
    expect(strongest(s as never, 'sink')).toEqual({ layer: 3, head: 0 })
  })
  it('shades by the square root', () => {
    expect([shade(0.25, 1), shade(0, 1), shade(2, 1), shade(1, 0)]).toEqual([0.5, 0, 1, 0])
  })
})

describe('the camera', () => {
  it('stays inside and never shows less than all', () => {
    expect(held({ x: -5, y: 900, zoom: 0.1 }, 1000, 500, 500)).toEqual({ x: 0, y: 0, zoom: 0.5 })
    expect(held({ x: 990, y: 0, zoom: 5 }, 1000, 500, 500)).toEqual({ x: 900, y: 0, zoom: 5 })
    expect(held({ x: 0, y: 0, zoom: 500 }, 10, 500, 500).zoom).toBe(50)
  })
  it('keeps the cell under the pointer', () => {
    const before = { x: 10, y: 20, zoom: 2 }
    const after = zoomed(before, 3, 100, 50)
    expect(after.x + 100 / after.zoom).toBeCloseTo(before.x + 100 / before.zoom)
    expect(after.y + 50 / after.zoom).toBeCloseTo(before.y + 50 / before.zoom)
  })
})
