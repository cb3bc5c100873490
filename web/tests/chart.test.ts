import { describe, expect, it } from 'vitest'
import { cell, csv, svg } from '../src/core/chart'
import { statistics } from '../src/core/stats'
import { Trace } from '../src/core/trace'
import { node, step } from './made'

describe('a chart as a file', () => {
  it('is a table with a row per token, undefined numbers empty', () => {
    const t = new Trace(node('a'))
    t.append(step(0, ['x = ', '"a",\n'], { columns: { surprisal: [null, 1.5] } }))
    const lines = csv(t, ['surprisal']).split('\n')
    expect(lines[0]).toBe('token,id,text,surprisal')
    expect(lines[1]).toMatch(/^0,\d+,"x = ",$/)
    expect(csv(t, ['surprisal'])).toContain('"""a"",\n",1.5')
  })

  it('holds no formulas', () => {
    for (const bad of ['=1+1', '+x', '-x', '@a', '\u200b=x', ' =x']) expect(cell(bad).startsWith(`"'`)).toBe(true)
    expect(cell('x = 1')).toBe('"x = 1"')
  })

  it('is a drawing whose names are text, with gaps where a number is undefined', () => {
    const drawn = svg(
      [{ title: 'a <b>&', values: Float32Array.of(NaN, 0, 1, NaN, 1), range: { lo: 0, hi: 1 }, scale: 'linear', colour: '#123456', dash: [] }],
      0, 5, { paper: '#fff', faint: '#ccc', text: '#000' },
    ) // prettier-ignore
    expect(drawn).toContain('a &lt;b&gt;&amp;')
    expect(drawn.match(/d="(M[^"]*)" stroke="#123456"/)![1].match(/M/g)).toHaveLength(2)
    expect(drawn).not.toContain('NaN')
  })
})

describe('statistics of some tokens', () => {
  it('count what is defined, both ends included', () => {
    const v = Float32Array.of(9, NaN, 1, 2, 6, 9)
    expect(statistics(v, 1, 4)).toEqual({ count: 3, mean: 3, sum: 9, lo: 1, hi: 6 })
    expect(statistics(v, 1, 1).count).toBe(0)
    expect(statistics(v, 4, 99)).toMatchObject({ count: 2, sum: 15 })
  })
})
