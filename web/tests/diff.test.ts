import { describe, expect, it } from 'vitest'
import { stretches } from '../src/core/diff'

const words = (s: string): string[] => s.split(' ').filter(Boolean)

/** What the stretches say of a side, put together again. */
const whole = (a: string[], parts: ReturnType<typeof stretches>, side: 'a' | 'b'): string[] =>
  parts.flatMap((p) => a.slice(...p[side]))

describe('two texts beside each other', () => {
  it('are parted into what is the same and what is not, and both stay whole', () => {
    const a = words('x = a + b if c else d')
    const b = words('x = b if c and e else d f')
    const parts = stretches(a, b)
    expect(parts.filter((p) => p.same).map((p) => a.slice(...p.a).join(' '))).toEqual(['x =', 'b if c', 'else d'])
    for (const p of parts.filter((q) => q.same)) expect(a.slice(...p.a)).toEqual(b.slice(...p.b))
    expect(whole(a, parts, 'a')).toEqual(a)
    expect(whole(b, parts, 'b')).toEqual(b)
  })

  it('may be empty, equal or wholly different', () => {
    expect(stretches([], [])).toEqual([])
    expect(stretches(['a'], [])).toEqual([{ same: false, a: [0, 1], b: [0, 0] }])
    expect(stretches(['a', 'b'], ['a', 'b'])).toEqual([{ same: true, a: [0, 2], b: [0, 2] }])
    expect(stretches(['a'], ['b'])).toEqual([{ same: false, a: [0, 1], b: [0, 1] }])
  })

  it('of random texts keep a longest common subsequence', () => {
    let seed = 1
    const draw = (n: number): number => (seed = (seed * 48271) % 2147483647) % n
    const longest = (x: string[], y: string[]): number =>
      x.length === 0 || y.length === 0
        ? 0
        : x[0] === y[0]
          ? 1 + longest(x.slice(1), y.slice(1))
          : Math.max(longest(x.slice(1), y), longest(x, y.slice(1)))
    for (let k = 0; k < 60; k++) {
      const a = Array.from({ length: draw(8) }, () => 'abc'[draw(3)])
      const b = Array.from({ length: draw(8) }, () => 'abc'[draw(3)])
      const parts = stretches(a, b)
      const kept = parts.filter((p) => p.same).reduce((s, p) => s + p.a[1] - p.a[0], 0)
      expect(kept).toBe(longest(a, b))
      expect([whole(a, parts, 'a'), whole(b, parts, 'b')]).toEqual([a, b])
    }
  })
})
