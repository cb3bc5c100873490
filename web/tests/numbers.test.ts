import { describe, expect, it } from 'vitest'
import { heaviest, pointed, reduced } from '../src/core/attention'
import { ago, errorBar, number, parameters, probability, sentence } from '../src/core/format'
import { envelope, moved, zoomed } from '../src/core/series'
import { found } from '../src/app/found'

describe('attention', () => {
  // 2 layers, 2 heads, 3 tokens
  const w = {
    layers: 2,
    heads: 2,
    length: 3,
    source: 'full',
    values: Float32Array.from([1, 0, 0, 0, 1, 0, 0, 0, 1, 0.5, NaN, 0.5]),
  }

  it('is one head, a mean, or the most of any', () => {
    expect([...reduced(w, 0, 1)]).toEqual([0, 1, 0])
    expect([...reduced(w, 0, 'mean')]).toEqual([0.5, 0.5, 0])
    expect([...reduced(w, 'mean', 'mean')]).toEqual([0.375, 0.25, 0.375])
    expect([...reduced(w, 'max', 'max')]).toEqual([1, 1, 1])
  })

  it('tells how much a head looks at one token, and where most lies', () => {
    expect([...pointed(w)]).toEqual([0, 1, 1, 0.5])
    expect(heaviest(Float32Array.from([0, 0.2, 0.7]), 5)).toEqual([
      { token: 2, weight: expect.closeTo(0.7) },
      { token: 1, weight: expect.closeTo(0.2) },
    ])
  })
})

describe('a series', () => {
  it('loses no spike, however many tokens a pixel holds', () => {
    const values = new Float32Array(10_000).fill(1)
    values[7777] = 50
    values[3] = NaN
    const { lo, hi } = envelope(values, 0, 10_000, 100)
    expect(Math.max(...hi)).toBe(50)
    expect(hi[77]).toBe(50)
    expect(lo[77]).toBe(1)
  })

  it('zooms about a token and stays inside', () => {
    expect(zoomed({ from: 0, to: 100 }, 50, 0.5, 100)).toEqual({ from: 25, to: 75 })
    expect(zoomed({ from: 0, to: 100 }, 0, 0.001, 100)).toEqual({ from: 0, to: 8 })
    expect(zoomed({ from: 40, to: 50 }, 45, 1000, 100)).toEqual({ from: 0, to: 100 })
    expect(moved({ from: 90, to: 95 }, 50, 100)).toEqual({ from: 95, to: 100 })
  })
})

describe('numbers in print', () => {
  it.each([
    [NaN, '–'],
    [null, '–'],
    [0, '0'],
    [-1.956, '−1.96'],
    [143.4, '143'],
    [0.0964, '0.0964'],
    [1e-7, '1.0e−7'],
    [Infinity, '∞'],
  ])('%s is %s', (v, s) => {
    expect(number(v)).toBe(s)
  })

  it.each([
    [0.41, '.410'],
    [1, '1'],
    [0.99999, '>.999'],
    [0.00001, '1e−5'],
    [0, '0'],
  ])('probability %s is %s', (p, s) => {
    expect(probability(p)).toBe(s)
  })

  it('counts parameters, time and words', () => {
    expect([parameters(22_400_000), parameters(7e9)]).toEqual(['22.4M', '7B'])
    expect(ago('2026-01-01T00:00:00Z', Date.parse('2026-01-01T02:00:00Z'))).toBe('2 h ago')
    expect(sentence('it failed')).toBe('It failed.')
  })
})

it('finds by letters in order, whole words first', () => {
  const all = ['Show all keys', 'Stop decoding', 'Next branch']
  expect(found(all, 'branch', (s) => s)).toEqual(['Next branch'])
  expect(found(all, 'sd', (s) => s)[0]).toBe('Stop decoding')
  expect(found(all, '', (s) => s)).toEqual(all)
  expect(found(all, 'zzz', (s) => s)).toEqual([])
})

describe('error bars', () => {
  it('say how far, in which unit and number type; none where nothing was measured', () => {
    expect(errorBar(0.112, 'nats', 'bfloat16')).toBe('± 0.11 nats in bfloat16')
    expect(errorBar(2, '', 'float16')).toBe('± 2 in float16')
    expect(errorBar(undefined, 'nats', 'bfloat16')).toBeNull()
    expect(errorBar(0, 'nats', 'bfloat16')).toBeNull()
  })
})
