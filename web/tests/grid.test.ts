// @vitest-environment jsdom
import { describe, expect, it } from 'vitest'
import { every, frame, gridCsv, gridSvg, type Grid } from '../src/core/grid'
import { cellsFor, headRows, heaviestOf, stepOf } from '../src/core/headmap'
import type { Weights } from '../src/core/attention'

const grid: Grid = {
  title: 'a < b', note: '0 to 1', rows: ['1.0', '=cmd()'], columns: ['0 "x"', '1 <y>', '2'],
  value: (r, c) => (r === 1 && c === 2 ? NaN : r + c / 10),
  fill: (r, c) => (r === 1 && c === 2 ? null : c === 0 ? '#000000' : '#ffffff'),
} // prettier-ignore
const INK = { paper: '#fff', text: '#111', faint: '#999' }

describe('a grid as a file', () => {
  it('is a table that no spreadsheet takes for formulas', () => {
    expect(gridCsv(grid)).toBe('"","0 ""x""","1 <y>","2"\n"1.0",0,0.1,0.2\n"\'=cmd()",1,1.1,\n')
  })
  it('is a drawing whose cells lie where the frame says, one path a colour, names escaped', () => {
    const cell = { width: 14, height: 10 }
    const xml = new DOMParser().parseFromString(gridSvg(grid, cell, INK), 'image/svg+xml')
    expect(xml.querySelector('parsererror')).toBeNull()
    const { left, top } = frame(grid, cell)
    const paths = [...xml.querySelectorAll('path')]
    expect(paths.map((p) => p.getAttribute('fill'))).toEqual(['#000000', '#ffffff'])
    const cells = paths.map((p) => p.getAttribute('d')!.split('z').filter(Boolean))
    expect(cells.map((c) => c.length)).toEqual([2, 3]) // the one without a value stays paper
    const [, x, y] = /^M([\d.]+) ([\d.]+)/.exec(cells[0][1])!
    expect(Number(x)).toBeCloseTo(left, 1)
    expect(Number(y)).toBeCloseTo(top + 10, 1)
    expect([...xml.querySelectorAll('text')].map((t) => t.textContent)).toContain('1 <y>')
  })
  it('names as many rows as can be read', () => {
    expect([20, 12, 8, 1].map(every)).toEqual([1, 1, 2, 12])
  })
})

describe('heads of one token', () => {
  // 2 layers x 2 heads x 3 tokens
  const w: Weights = {
    layers: 2, heads: 2, length: 3, source: 'full',
    values: Float32Array.from([0.9, 0.1, 0, 0.2, 0.3, 0.5, 0.8, 0.2, 0, 0.1, 0.1, 0.8]),
  } // prettier-ignore
  it('stand by layer, the last on top, with the numbers of the layers that have attention', () => {
    const rows = headRows(w, [1, 5], 'layer', 0).map((r) => `${r.layer}.${r.head}:${r.index}`)
    expect(rows).toEqual(['5.0:2', '5.1:3', '1.0:0', '1.1:1'])
  })
  it('stand by what they give to a token', () => {
    expect(headRows(w, [1, 5], 'weight', 2).map((r) => r.index)).toEqual([3, 1, 2, 0])
    expect(headRows(w, [1, 5], 'weight', 9).map((r) => r.index)).toEqual([2, 3, 0, 1])
  })
  it('have a scale that token 0 need not set', () => {
    expect(heaviestOf(w, false)).toBeCloseTo(0.9)
    expect(heaviestOf(w, true)).toBeCloseTo(0.8)
    expect([stepOf(0, 0.8), stepOf(NaN, 0.8), stepOf(0.9, 0.8), stepOf(0.2, 0.8)]).toEqual([-1, -1, 63, 32])
  })
  it('have cells between what can be hit and what is worth looking at', () => {
    expect(cellsFor({ width: 600, height: 400 }, 16, 20)).toEqual({ width: 30, height: 20 })
    expect(cellsFor({ width: 600, height: 400 }, 270, 5000)).toEqual({ width: 12, height: 8 })
    expect(cellsFor({ width: 600, height: 400 }, 40, 30)).toEqual({ width: 20, height: 10 })
  })
})
