import { describe, expect, it } from 'vitest'
import type { ExploreBranch, ExploreState, Outcome } from '../src/api/explore'
import { forking, mostBranches, percent, slices, splitAt, type Plan } from '../src/core/explored'

const branch = (name: number, parent: number | null, at: number, ids: number[]): ExploreBranch => ({
  type: 'branch', name, parent, at, ids, text: '', finish: 'length', text_mass: 0,
}) // prettier-ignore
const outcome = (name: string, mass: number, branches: number[]): Outcome => ({
  name, label: name, mass, low: 0, high: 1, branches, draws: 0,
}) // prettier-ignore
const state = (outcomes: Outcome[], masses: number[], unexplored: number): ExploreState => ({
  type: 'state', masses, enumerated_to: [], draws: [], outcomes, unexplored,
  parts: { other_tokens: unexplored, skipped: 0, waiting: 0 },
  entropy: 0, entropy_low: 0, entropy_high: 0, tokens: 0, bytes: 0, ended: null, finished: true,
}) // prettier-ignore

describe('an exploration as it is drawn', () => {
  const s = state([outcome('a', 0.6, [0, 2]), outcome('b', 0.3, [1]), outcome('c', 0.004, [3])], [0.5, 0.3, 0.1, 0.004], 0.096)

  it('shows every share, the thin and the unexplored ones too', () => {
    const parts = slices(s)
    expect(parts.shown.map((x) => x.mass)).toEqual([0.6, 0.3])
    const all = parts.shown.reduce((t, x) => t + x.mass, 0) + parts.thin + parts.unexplored
    expect(all).toBeCloseTo(1, 12)
  })

  it('tells where each alternative of a token leads', () => {
    // token 10 is the first; branch 1 leaves 0 at 10, branch 2 at 11, branch 3 leaves branch 1
    const all = [branch(0, null, 10, [5, 6]), branch(1, 0, 10, [7, 8]), branch(2, 0, 11, [5, 9]), branch(3, 1, 11, [7, 1])]
    expect(splitAt(10, 10, all, s).map((x) => [x.id, x.outcome, x.mass])).toEqual([[5, 0, 0.5], [7, 1, 0.3]])
    expect(splitAt(11, 10, all, s).map((x) => x.id)).toEqual([6, 9])
  })

  it('marks choices of the written text that change the outcome', () => {
    const d = { branch: 0, at: 10, reach: 1, entropy: 1, semantic: 0.4, cosmetic: 0.1, alternatives: [], rest: 0 }
    expect([...forking([d, { ...d, at: 11, semantic: 0 }, { ...d, at: 12, branch: 1 }])]).toEqual([[10, 0.4]])
  })

  it('tells the most branches before it starts', () => {
    const plan: Plan = { way: 'enumerated', width: 4, depth: 2, horizon: 12, draws: 100 }
    expect(mostBranches(plan)).toBe(16)
    expect(mostBranches({ ...plan, depth: 40 })).toBe(500)
    expect(mostBranches({ ...plan, horizon: 1 })).toBe(4)
    expect(mostBranches({ ...plan, way: 'greedy' })).toBe(9)
    expect(mostBranches({ ...plan, way: 'sampled' })).toBe(100)
  })

  it('never rounds a share to what it is not', () => {
    expect([0, 0.0004, 0.004, 0.0949, 0.714, 0.9996, 1].map(percent)).toEqual(['0 %', '<0.1 %', '0.4 %', '9.5 %', '71 %', '99.9 %', '100 %'])
  })
})
