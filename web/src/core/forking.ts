/** Forking tokens for drawing: marks, what an alternative leads to, what the gate may have missed. */
import type { ExploreDecision, ExploreState } from '../api/explore'
import type { ForkingDone, ForkPlace } from '../api/forking'
import { percent } from './explored'

/** Part of an alternative's mass that comes to one outcome. */
export interface LedPart {
  label: string
  mass: number
  /** Which colour of the series, from 1. */
  series: number
}

/** An alternative with the outcomes that it leads to. */
export interface Led {
  token: string
  mass: number
  parts: LedPart[]
}

const SERIES = 5
export const seriesOf = (index: number): number => Math.min(index + 1, SERIES)

/** How much of the mass of a token leads elsewhere: what its mark is as large as. */
export function forkMarks(places: Iterable<ForkPlace>): Map<number, number> {
  const out = new Map<number, number>()
  for (const p of places) if (p.fork_tv > 0) out.set(p.at, Math.min(1, p.fork_tv))
  return out
}

/** The alternatives of a place; the colours are those of its own outcomes, as they are listed. */
export function ledOf(place: ForkPlace, spelt: (id: number) => string): Led[] {
  return place.alternatives.map((a) => ({
    token: spelt(a.id),
    mass: a.mass,
    parts: [{ label: place.outcomes[a.outcome]?.label ?? '', mass: a.mass, series: seriesOf(a.outcome) }],
  }))
}

/** The alternatives of a decision of an exploration; the colours are those of all its outcomes. */
export function ledToOf(decision: ExploreDecision, state: ExploreState, spelt: (id: number) => string): Led[] {
  const index = new Map(state.outcomes.map((o, i) => [o.name, i]))
  return decision.alternatives.map((a) => ({
    token: spelt(a.id),
    mass: a.mass,
    parts: a.outcomes.flatMap((led) => {
      const i = index.get(led.outcome)
      return i === undefined ? [] : [{ label: state.outcomes[i].label, mass: led.mass, series: seriesOf(i) }]
    }),
  }))
}

/** What the gate skipped, and what it may have missed, in a sentence. */
export function skippedText(done: Pick<ForkingDone, 'skipped' | 'skipped_share' | 'checked'>): string {
  if (done.skipped === 0) return 'The gate skipped no token.'
  const c = done.checked
  const share = `The gate skipped ${done.skipped} tokens (${percent(done.skipped_share)}).`
  if (c.n === 0) return `${share} None of them was checked, so what it missed is not known.`
  const missed = c.missed === 0 ? `none reaches 0.1` : `${c.missed} reach 0.1`
  return (
    `${share} Of ${c.n} that were measured to check it ${missed}, the largest is ${c.most.toFixed(2)}; ` +
    `it may have missed ${percent(c.low)} to ${percent(c.high)} of those skipped (95 %).`
  )
}
