import { describe, expect, it } from 'vitest'
import { contrast, luminance, parseHex, ramp, step, STEPS } from '../src/core/ramp'
import { at, niceAbove, place, plain, quantile, rangeHolding, rangeOf, ticks } from '../src/core/scale'

const spec = { ...plain('x'), lo: 0 }

describe('a scale', () => {
  it('keeps the ends that the column has', () => {
    expect(rangeOf({ ...spec, hi: 6 }, [1, 99])).toEqual({ lo: 0, hi: 6 })
  })

  it('takes an open end from the data, robustly and rounded', () => {
    const values = [...Array.from({ length: 99 }, (_, i) => i / 10), 5000]
    expect(rangeOf(spec, values)).toEqual({ lo: 0, hi: 10 })
    expect(rangeOf({ ...spec, lo: null }, [-7, 3])).toEqual({ lo: -8, hi: 3 })
    expect(rangeOf(spec, [NaN])).toEqual({ lo: 0, hi: 1 })
  })

  it('may be widened to hold every number', () => {
    const values = Float32Array.from([NaN, 9, 2])
    expect(rangeHolding({ lo: 0, hi: 6 }, values)).toEqual({ lo: 0, hi: 10 })
    expect(rangeHolding({ lo: 0, hi: 6 }, Float32Array.from([Infinity]))).toEqual({ lo: 0, hi: 6 })
  })

  it.each(['linear', 'log'] as const)('places and gives back (%s)', (kind) => {
    const range = { lo: 1, hi: 100 }
    for (const p of [0, 0.25, 0.5, 1]) expect(place(at(p, range, kind), range, kind)).toBeCloseTo(p)
    expect(place(1e9, range, kind)).toBe(1)
    expect(place(-1, range, kind)).toBe(0)
    expect(place(NaN, range, kind)).toBeNaN()
  })

  it('has round ticks inside its ends', () => {
    expect(ticks({ lo: 0, hi: 6 }, 'linear')).toEqual([0, 2, 4, 6])
    expect(ticks({ lo: 0, hi: 1 }, 'linear').map((v) => v.toFixed(1))).toEqual(['0.0', '0.5', '1.0'])
    expect(ticks({ lo: 1, hi: 100 }, 'log')).toEqual([1, 10, 100])
    expect(ticks({ lo: -12, hi: 0 }, 'linear').at(-1)).toBe(0)
  })

  it('knows quantiles and nice numbers', () => {
    expect(quantile([3, 1, 2, NaN], 0.5)).toBe(2)
    expect(quantile([], 0.5)).toBeNaN()
    expect([0.07, 1, 1.2, 7, 93].map(niceAbove)).toEqual([0.08, 1, 1.5, 8, 100])
  })
})

describe.each(['value', 'attention'] as const)('the %s ramp', (name) => {
  it.each(['light', 'dark'] as const)('has text of AA contrast on every step (%s)', (theme) => {
    const r = ramp(name, theme)
    expect(r.fill).toHaveLength(STEPS)
    r.fill.forEach((fill, i) => {
      expect(contrast(parseHex(fill), parseHex(r.ink[i]))).toBeGreaterThanOrEqual(4.5)
    })
  })

  it.each(['light', 'dark'] as const)('changes evenly in lightness, one way (%s)', (theme) => {
    // CIE lightness is not OKLab's, but close enough to see a bend.
    const L = ramp(name, theme).fill.map((f) => 116 * Math.cbrt(luminance(parseHex(f))) - 16)
    const steps = L.slice(1).map((v, i) => v - L[i])
    const mean = steps.reduce((s, v) => s + v, 0) / steps.length
    for (const s of steps) expect(s * Math.sign(mean)).toBeGreaterThan(0)
    for (let i = 0; i + 8 < STEPS; i += 8) {
      expect(Math.abs(L[i + 8] - L[i]) / Math.abs(8 * mean)).toBeGreaterThan(0.6)
      expect(Math.abs(L[i + 8] - L[i]) / Math.abs(8 * mean)).toBeLessThan(1.6)
    }
  })
})

it('puts the strong end where a look is worth while', () => {
  expect([step(0, 'low'), step(1, 'low'), step(0, 'high'), step(1, 'high')]).toEqual([0, 63, 63, 0])
  expect(step(NaN, 'none')).toBe(-1)
})
