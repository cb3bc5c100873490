import { describe, expect, it } from 'vitest'
import type { LedgerArm } from '../src/api/ledger'
import { axisOf, differs, promptsOf, signed } from '../src/core/ledger'

const arm = (low: number, high: number): LedgerArm =>
  ({ figures: [{ name: 'price', value: { mean: (low + high) / 2, low, high, n: 3 }, against_none: { mean: 0, low: -1, high: 1, n: 3 } }] }) as unknown as LedgerArm // prettier-ignore

describe('a ledger', () => {
  it('parts prompts at lines of three dashes; what is within a prompt stays', () => {
    expect(promptsOf('def a():\n    x = 1\n---\ndef b():\n\n---\n  \n')).toEqual(['def a():\n    x = 1', 'def b():\n'])
    expect(promptsOf('a --- b')).toEqual(['a --- b'])
    expect(promptsOf('')).toEqual([])
  })
  it('draws all arms on one axis that holds zero', () => {
    const axis = axisOf([arm(1, 3), arm(2, 8)], 'price', false)
    expect(axis.lo).toBe(0)
    expect(axis.hi).toBeGreaterThanOrEqual(8)
    expect(axisOf([arm(-4, -2)], 'price', false).hi).toBeGreaterThan(0)
    expect(axisOf([arm(0, 1)], 'changed', true)).toEqual({ lo: -1, hi: 1 })
  })
  it('tells a difference only where its interval leaves zero out', () => {
    expect(differs({ low: 0.1, high: 0.4 })).toBe(true)
    expect(differs({ low: -0.1, high: 0.4 })).toBe(false)
    expect(differs({ low: 0, high: 0 })).toBe(false)
    expect(differs({ low: null, high: 0.4 })).toBe(false)
    expect([signed(0.5), signed(-0.5), signed(null)]).toEqual(['+0.5', '−0.5', '–'])
  })
})
