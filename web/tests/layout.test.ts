import { describe, expect, it } from 'vitest'
import { Layout, type Row } from '../src/core/layout'
import { Trace } from '../src/core/trace'
import { node, random, step, trace, type Part } from './made'

const lay = (parts: Part[], width = 80): Layout => new Layout(trace(parts), width)
const text = (row: Row): string => row.pieces.map((p) => p.text).join('')
const told = (l: Layout): unknown => l.rows.map((r) => [r.line, r.pieces])

describe('rows', () => {
  it('break at line ends, which belong to the row they end', () => {
    const l = lay(['a', '\n', 'b\n  ', 'c'])
    expect(l.rows.map((r) => [r.line, text(r)])).toEqual([
      [1, 'a⏎'],
      [2, 'b⏎'],
      [3, '  c'],
    ])
    expect([0, 1, 2, 3].map((t) => l.rowOfToken(t))).toEqual([0, 0, 1, 2])
  })

  it('wrap at the width, and say so by having no number', () => {
    const l = lay(['abcdefgh', 'ij'], 5)
    expect(l.rows.map((r) => [r.line, text(r)])).toEqual([
      [1, 'abcde'],
      [null, 'fghij'],
    ])
  })

  it('never exceed the width', () => {
    const next = random(3)
    const parts = Array.from({ length: 300 }, () =>
      ['x', 'word', '  ', '\n', '字字', '\t', '\u202e', 'long'.repeat(9)][Math.floor(next() * 8)],
    )
    for (const row of lay(parts, 30).rows) {
      const used = row.pieces.filter((p) => p.kind !== 'break').reduce((s, p) => s + p.cells, 0)
      expect(used).toBeLessThanOrEqual(30)
    }
  })

  it('name what is hidden, show marks as chips and count tabs to the next stop', () => {
    const l = lay([{ label: '<s>' }, 'a\tb', '\u200b', [0x00]])
    expect(l.rows[0].pieces.map((p) => [p.kind, p.text, p.cells])).toEqual([
      ['special', '<s>', 5],
      ['text', 'a', 1],
      ['tab', '\t', 2],
      ['text', 'b', 1],
      ['hidden', 'ZWSP', 5],
      ['hidden', 'NUL', 4],
    ])
  })

  it('show a carriage return only beside the line feed it belongs to', () => {
    expect(lay(['a\r\n', '\r']).rows.map(text)).toEqual(['a␍⏎', 'CR'])
  })

  it('draw a split character where it starts, and bytes in the other tokens', () => {
    const l = lay([[0x61, 0xe2, 0x82], [0xac, 0x62]])
    expect(l.rows[0].pieces.map((p) => [p.token, p.kind, p.text])).toEqual([
      [0, 'text', 'a€'],
      [1, 'byte', 'AC'],
      [1, 'text', 'b'],
    ])
  })

  it('give every token a piece, even one without bytes', () => {
    const l = lay(['', 'a', [0xf0], [0x9f], [0x99], [0x82], '', '\n', ''])
    const tokens = new Set(l.rows.flatMap((r) => r.pieces.map((p) => p.token)))
    expect(tokens.size).toBe(9)
  })

  it('lead with exactly one piece of every token', () => {
    const l = lay(['a\n\n', 'b\n  ', { label: '<m>' }, '', [0xe2, 0x82], [0xac], 'x'.repeat(200)], 30)
    const leading = l.rows.flatMap((r) => r.pieces.filter((p) => p.leads).map((p) => p.token))
    expect(leading).toEqual([0, 1, 2, 3, 4, 5, 6])
  })

  it('are the same whether laid at once or as the tokens come', () => {
    const next = random(11)
    const choices: Part[] = [
      'x', 'word ', '\n', '    ', '\n\n  ', [0xe2], [0x82, 0xac], '字', { label: '<m>' }, '\t', '\r', '\r\n', '',
    ]
    for (let round = 0; round < 60; round++) {
      const parts = Array.from({ length: 80 }, () => choices[Math.floor(next() * choices.length)])
      const t = new Trace(node('t'))
      const growing = new Layout(t, 24)
      for (let i = 0; i < parts.length; ) {
        const n = 1 + Math.floor(next() * 5)
        t.append(step(i, parts.slice(i, i + n)))
        i += n
        growing.extend()
      }
      const fresh = new Layout(t, 24)
      expect(told(growing)).toEqual(told(fresh))
      for (let i = 0; i < t.length; i++) expect(growing.rowOfToken(i)).toBe(fresh.rowOfToken(i))
    }
  })

  it('keep the rows that did not change', () => {
    const t = trace(['a\n', 'b\n', 'c'])
    const l = new Layout(t, 80)
    const before = [...l.rows]
    t.append(step(3, ['d']))
    l.extend()
    expect(l.rows[0]).toBe(before[0])
    expect(l.rows[1]).toBe(before[1])
    expect(l.rows[2]).not.toBe(before[2])
  })

  it('find the token under a cell, and the cell of a token', () => {
    const l = lay(['ab', 'cd', '\n', 'e'])
    expect([l.tokenAt(0, 1), l.tokenAt(0, 2), l.tokenAt(0, 99), l.tokenAt(1, 5)]).toEqual([0, 1, 2, 3])
    expect([l.cellOfToken(1), l.cellOfToken(3)]).toEqual([2, 0])
  })

  it('take ten thousand tokens in no time', () => {
    const parts = Array.from({ length: 10_000 }, (_, i) => (i % 9 === 8 ? '\n    ' : ` w${i}`))
    const t = trace(parts)
    const start = performance.now()
    new Layout(t, 90)
    expect(performance.now() - start).toBeLessThan(500)
  })
})
