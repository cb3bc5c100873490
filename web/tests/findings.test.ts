import { describe, expect, it } from 'vitest'
import type { Finding } from '../src/api/evidence'
import { findingsAt, marksOf, nextFinding, tally, weakness } from '../src/core/findings'

const made = (rule: string, severity: Finding['severity'], tokens: [number, number] | null): Finding => ({
  rule, message: '', source: 'rules', cwe: 78, severity, confidence: 'medium', start: 0, end: 1, tokens,
}) // prettier-ignore

const list = [made('a', 'low', [3, 6]), made('b', 'high', [5, 7]), made('c', 'medium', null), made('d', 'medium', [5, 6])]

describe('findings', () => {
  it('marks each token with the worst that holds it', () => {
    expect([...marksOf(list)]).toEqual([[3, 'low'], [4, 'low'], [5, 'high'], [6, 'high']]) // prettier-ignore
  })
  it('lists those of a token worst first; the end is not part of it', () => {
    expect(findingsAt(list, 5).map((f) => f.rule)).toEqual(['b', 'd', 'a'])
    expect(findingsAt(list, 7)).toEqual([])
  })
  it('goes from one to the next, round the ends; two that begin together are one stop', () => {
    expect(nextFinding(list, null, 1)).toBe(3)
    expect(nextFinding(list, 3, 1)).toBe(5)
    expect(nextFinding(list, 5, 1)).toBe(3)
    expect(nextFinding(list, 4, -1)).toBe(3)
    expect(nextFinding(list, 3, -1)).toBe(5)
    expect(nextFinding(list, null, -1)).toBe(5)
    expect(nextFinding([made('c', 'low', null)], 1, 1)).toBeNull()
  })
  it('counts all, those without a token too', () => {
    expect(tally(list).map((t) => t.count)).toEqual([1, 2, 1])
  })
  it('names a weakness only where one fits', () => {
    expect(weakness({ cwe: 78 })).toBe('CWE-78')
    expect(weakness({ cwe: 0 })).toBe('')
  })
})
