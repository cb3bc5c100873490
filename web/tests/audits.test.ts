import { describe, expect, it } from 'vitest'
import type { AuditSample } from '../src/api/audits'
import { axisOf, duration, endsOf, figureText, linesOf, progressText, tokensOf, unitOf } from '../src/core/audits'

const bound = (lower: number | null, upper: number | null, value: number | null = null) => ({ lower, upper, value })

describe('the axis of a gate', () => {
  it('holds the interval and its limit, and of a share no more than 0..1', () => {
    const cases: [string, number | null, number | null, number | null][] = [
      ['CWE-78.risk', 0.001, 0.012, 0.02],
      ['parse_rate', 0.93, 0.99, 0.98],
      ['any.risk', 0.2, 1, 0.05],
      ['surprisal.token.p99', 4, 9, 12],
      ['drift.kl.max', 0, 0, 0],
    ]
    for (const [figure, lower, upper, limit] of cases) {
      const axis = axisOf(figure, bound(lower, upper), limit)
      expect(axis.lo).toBeLessThanOrEqual(Math.min(lower!, limit!))
      expect(axis.hi).toBeGreaterThanOrEqual(Math.max(upper!, limit!))
      expect(axis.hi).toBeGreaterThan(axis.lo)
      if (!figure.includes('surprisal')) expect(axis.hi).toBeLessThanOrEqual(1)
    }
  })
  it('is close enough to see a small limit, and far enough for a high one', () => {
    expect(axisOf('CWE-78.risk', bound(0, 0.03), 0.02).hi).toBeLessThan(0.1)
    expect(axisOf('parse_rate', bound(0.9, 0.97), 0.98).lo).toBeGreaterThan(0.5)
  })
  it('draws an end that is not there to the end of the axis', () => {
    const axis = axisOf('any.risk', bound(0.4, null), 0.5)
    expect(endsOf(bound(0.4, null), axis)).toEqual([0.4, axis.hi])
    expect(axisOf('any.risk', bound(null, null), null)).toEqual({ lo: 0, hi: 1 })
  })
  it('says shares as probabilities and the rest as numbers', () => {
    expect(figureText('any.risk', 0.25)).toBe('.250')
    expect(figureText('surprisal.token.p99', 9.876)).toBe('9.88')
    expect(figureText('any.risk', null)).toBe('–')
    expect(['any.risk', 'parse_rate', 'error_rate', 'surprisal.token.p99', 'surprisal.statement.p50', 'drift.flips'].map(unitOf)).toEqual(
      ['sample', 'sample', 'case', 'token', 'statement', 'token'],
    ) // prettier-ignore
  })
})

describe('progress', () => {
  it('says how far, and how long it may take only where that is known', () => {
    expect(progressText({ done: 3, total: 40, left_s: 130 })).toBe('3 of 40 cases, about 2 min left')
    expect(progressText({ done: 3, total: null, left_s: null })).toBe('3 cases')
    expect([0.2, 45, 600, 8000].map(duration)).toEqual(['a second', '45 s', '10 min', '2.2 h'])
  })
  it('counts lines that hold something', () => {
    expect(linesOf('{"a": 1}\n\n  \n{"a": 2}\n')).toBe(2)
  })
})

describe('the tokens of a sample', () => {
  it('stand with their text, severity and numbers', () => {
    const sample = {
      ids: [0, 5, 6], offsets: [0, 0, 2, 5], data: btoa('osabc'), labels: { '0': '<s>' }, n_prompt: 2,
      surprisal: [null, 1, 2], findings: [
        { tokens: [1, 3], severity: 'low' }, { tokens: [2, 3], severity: 'high' }, { tokens: null, severity: 'high' },
      ],
    } as unknown as AuditSample // prettier-ignore
    const made = tokensOf(sample)
    expect(made.map((t) => t.text)).toEqual(['<s>', 'os', 'abc'])
    expect(made.map((t) => t.severity)).toEqual(['', 'low', 'high'])
    expect(made.map((t) => t.prompt)).toEqual([true, true, false])
    expect(made[0].label).toBe(true)
    expect(made[0].surprisal).toBeNaN()
    expect(made[2].surprisal).toBe(2)
  })
})
