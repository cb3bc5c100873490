import { describe, expect, it } from 'vitest'
import type { ExploreDecision, ExploreState } from '../src/api/explore'
import type { ForkPlace } from '../src/api/forking'
import { forkMarks, ledOf, ledToOf, skippedText } from '../src/core/forking'

const place = {
  at: 7, text: 'x', fork_tv: 0.25, high: 0.4, gated: true, semantic: 0.5, cosmetic: 0.1, rest: 0.15,
  outcomes: [{ label: 'A', mass: 0.6, own: true }, { label: 'B', mass: 0.25, own: false }],
  alternatives: [{ id: 1, mass: 0.6, outcome: 0, text: '' }, { id: 2, mass: 0.25, outcome: 1, text: '' }],
} as ForkPlace // prettier-ignore

describe('forking tokens', () => {
  it('wear a mark as large as the mass that leads elsewhere, and none where nothing does', () => {
    expect([...forkMarks([place, { ...place, at: 9, fork_tv: 0 }])]).toEqual([[7, 0.25]])
  })
  it('tell where each alternative leads, in the colours of the outcomes', () => {
    const led = ledOf(place, (id) => `t${id}`)
    expect(led.map((l) => [l.token, l.parts[0].label, l.parts[0].series])).toEqual([['t1', 'A', 1], ['t2', 'B', 2]]) // prettier-ignore
  })
  it('split an alternative of an exploration by the outcomes behind it; unknown ones are left out', () => {
    const state = { outcomes: [{ name: 'a', label: 'A' }, { name: 'b', label: 'B' }] } as unknown as ExploreState
    const decision = {
      alternatives: [{ id: 3, mass: 0.5, unexplored: 0.1, outcomes: [{ outcome: 'b', mass: 0.3 }, { outcome: 'gone', mass: 0.1 }] }],
    } as unknown as ExploreDecision // prettier-ignore
    expect(ledToOf(decision, state, String)).toEqual([
      { token: '3', mass: 0.5, parts: [{ label: 'B', mass: 0.3, series: 2 }] },
    ])
  })
  it('say what the gate skipped and may have missed, never more than is known', () => {
    const checked = { n: 8, most: 0.03, missed: 0, low: 0, high: 0.324 }
    expect(skippedText({ skipped: 52, skipped_share: 0.8125, checked })).toContain('52 tokens (81 %)')
    expect(skippedText({ skipped: 52, skipped_share: 0.8125, checked })).toContain('none reaches 0.1')
    expect(skippedText({ skipped: 52, skipped_share: 0.8, checked: { ...checked, n: 0 } })).toContain('not known')
    expect(skippedText({ skipped: 0, skipped_share: 0, checked })).toBe('The gate skipped no token.')
  })
})
