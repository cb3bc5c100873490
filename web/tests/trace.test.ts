import { describe, expect, it } from 'vitest'
import { distributionAt } from '../src/core/distribution'
import { Trace } from '../src/core/trace'
import { info, node, step, trace } from './made'

function floats(...columns: number[][]): ArrayBuffer {
  const flat = columns.flat()
  const buffer = new ArrayBuffer(flat.length * 4)
  const view = new DataView(buffer)
  flat.forEach((v, i) => view.setFloat32(i * 4, v, true))
  return buffer
}

describe('a trace from the server', () => {
  it('gives columns in the order asked, NaN where undefined', () => {
    const t = Trace.of(info(['a', 'b'], { columns: ['x', 'y'], qualities: ['exact', 'bound'] }))
    t.setColumns(['x', 'y'], floats([NaN, 2], [3, 4]))
    expect(t.column('x')![0]).toBeNaN()
    expect([t.value('x', 1), t.value('y', 0), t.value('y', 1)]).toEqual([2, 3, 4])
    expect(t.column('z')).toBeNull()
    expect(t.value('x', 9)).toBeNaN()
    expect(t.qualities.get('y')).toBe('bound')
  })

  it('refuses octets of the wrong length', () => {
    const t = Trace.of(info(['a', 'b'], { k: 2 }))
    expect(() => t.setColumns(['x'], floats([1]))).toThrow(RangeError)
    expect(() => t.setAlternatives(new ArrayBuffer(12))).toThrow(RangeError)
  })

  it('reads alternatives, and leaves out the places that hold none', () => {
    const t = Trace.of(info(['a', 'b'], { k: 2, pieces: [{ id: 7, bytes: btoa('z'), label: null }] }))
    const buffer = new ArrayBuffer(32)
    const view = new DataView(buffer)
    ;[-1, -1, 7, -1].forEach((v, i) => view.setInt32(i * 4, v, true))
    ;[0, 0, -0.5, 0].forEach((v, i) => view.setFloat32(16 + i * 4, v, true))
    t.setAlternatives(buffer)
    expect(t.alternatives(0)).toEqual([])
    expect(t.alternatives(1)).toEqual([{ id: 7, logprob: -0.5 }])
    expect(t.spelling(7)).toBe('z')
    expect(t.spelling(8)).toBe('#8')
  })
})

describe('a trace that streams', () => {
  it('grows past its first arrays and keeps its bytes', () => {
    const t = new Trace(node('t'))
    let text = ''
    for (let i = 0; i < 1000; i++) {
      t.append(step(i, [`t${i} `], { columns: { x: [i], y: [i === 5 ? null : 1] } }))
      text += `t${i} `
    }
    expect(t.length).toBe(1000)
    expect(t.span(0, 1000)).toBe(text)
    expect(t.text(999)).toBe('t999 ')
    expect(t.value('x', 999)).toBe(999)
    expect(t.value('y', 5)).toBeNaN()
  })

  it('refuses a gap', () => {
    const t = trace(['a'])
    expect(() => t.append(step(2, ['b']))).toThrow(RangeError)
  })

  it('keeps special tokens by their label and without bytes', () => {
    const t = trace([{ label: '<s>' }, 'a'])
    expect([t.text(0), t.text(1), t.span(0, 2)]).toEqual(['<s>', 'a', 'a'])
    expect(t.isSpecial(100)).toBe(true)
  })

  it('gives a column that begins late NaN before its beginning', () => {
    const t = trace(['a', 'b'])
    t.append(step(2, ['c'], { columns: { late: [1] } }))
    expect([...t.column('late')!]).toEqual([NaN, NaN, 1])
  })

  it('knows the prompt by its first steps', () => {
    const t = new Trace(node('t'))
    t.append(step(0, ['a', 'b'], { prompt: true }))
    t.append(step(2, ['c']))
    expect(t.nPrompt).toBe(2)
  })
})

describe('a branch', () => {
  function parent(): Trace {
    const t = new Trace(node('p'))
    t.append(step(0, ['a', 'b'], { prompt: true, columns: { x: [null, 1] } }))
    t.append(
      step(2, ['c', 'd'], {
        columns: { x: [2, 3] },
        alternative_ids: [[1], [2]],
        alternative_logprobs: [[-1], [-2]],
      }),
    )
    return t
  }

  it('copies what it shares and leaves its parent alone', () => {
    const p = parent()
    const b = Trace.branchOf(p, node('b', 'p', 3), 3)
    b.append(step(3, ['e'], { columns: { x: [9] } }))
    expect([b.span(0, 4), p.span(0, 4)]).toEqual(['abce', 'abcd'])
    expect([b.value('x', 2), b.value('x', 3), p.value('x', 3)]).toEqual([2, 9, 3])
    expect(b.alternatives(2)).toEqual([{ id: 1, logprob: -1 }])
    expect(b.alternatives(3)).toEqual([])
  })

  it('does not take a token put into the continuation for prompt', () => {
    const b = Trace.branchOf(parent(), node('b', 'p', 3), 3)
    b.append(step(3, ['e'], { prompt: true }))
    expect(b.nPrompt).toBe(2)
  })

  it('takes one put into the prompt for prompt', () => {
    const b = Trace.branchOf(parent(), node('b', 'p', 1), 1)
    b.append(step(1, ['e'], { prompt: true }))
    expect(b.nPrompt).toBe(2)
  })

  it('may keep more alternatives than its parent', () => {
    const b = Trace.branchOf(parent(), node('b', 'p', 3), 3)
    b.append(step(3, ['e'], { alternative_ids: [[4, 5]], alternative_logprobs: [[-1, -2]] }))
    expect(b.alternatives(2)).toEqual([{ id: 1, logprob: -1 }])
    expect(b.alternatives(3).map((a) => a.id)).toEqual([4, 5])
  })

  it('says in one line how it goes on', () => {
    expect(trace(['a', '\n', '  b', ' c', '\n', 'd']).excerpt(1)).toBe('  b c')
  })
})

describe('a distribution', () => {
  it('sums to one, with the token that was written among the choices', () => {
    const t = new Trace(node('t'))
    t.append(step(0, ['a']))
    t.append(
      step(1, ['rare'], {
        columns: { probability: [0.01], rank: [57] },
        alternative_ids: [[1, 2]],
        alternative_logprobs: [[Math.log(0.5), Math.log(0.25)]],
      }),
    )
    const d = distributionAt(t, 1)!
    const sum = d.choices.reduce((s, c) => s + c.probability, d.rest)
    expect(sum).toBeCloseTo(1, 6)
    expect(d.choices.map((c) => [c.rank, c.chosen])).toEqual([
      [1, false],
      [2, false],
      [57, true],
    ])
    expect(distributionAt(t, 0)).toBeNull()
  })
})
