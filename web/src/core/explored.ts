/** What an exploration found, for drawing: slices of a bar, outcomes by alternative, sizes of marks. */
import type { ExploreBranch, ExploreDecision, ExploreState, Outcome } from '../api/explore'

export type Way = 'enumerated' | 'sampled' | 'greedy'

export interface Plan {
  way: Way
  width: number
  depth: number
  horizon: number
  draws: number
}

const MOST = 500 // branches, as the server caps them

/** The most branches that a plan can take; the server's own formula. */
export function mostBranches(p: Plan): number {
  if (p.way === 'sampled') return Math.min(p.draws, MOST)
  const depth = Math.min(p.depth, p.horizon)
  if (p.way === 'greedy') return Math.min(MOST, 1 + depth * p.width)
  return Math.min(MOST, p.width ** depth)
}

export interface Slice {
  outcome: Outcome | null
  /** Share of 1; nothing is normalised away. */
  mass: number
}

/** Outcomes, most mass first, those too thin to see as one, and what no branch holds. */
export function slices(state: ExploreState, thin = 0.01): { shown: Slice[]; thin: number; unexplored: number } {
  const shown: Slice[] = []
  let rest = 0
  for (const outcome of state.outcomes) {
    if (outcome.mass >= thin || shown.length === 0) shown.push({ outcome, mass: outcome.mass })
    else rest += outcome.mass
  }
  return { shown, thin: rest, unexplored: state.unexplored }
}

export interface Split {
  /** The token that is taken there. */
  id: number
  branch: ExploreBranch
  mass: number
  outcome: number
}

/** The alternatives that were followed at token t of the text that is explored, with where they lead. */
export function splitAt(t: number, at: number, branches: readonly ExploreBranch[], state: ExploreState): Split[] {
  const outcomeOf = new Map<number, number>()
  state.outcomes.forEach((o, i) => o.branches.forEach((b) => outcomeOf.set(b, i)))
  const out: Split[] = []
  for (const branch of branches) {
    const here = branch.name === 0 ? t - at < branch.ids.length : branch.parent === 0 && branch.at === t
    if (!here) continue
    out.push({ id: branch.ids[t - at], branch, mass: state.masses[branch.name] ?? 0, outcome: outcomeOf.get(branch.name) ?? -1 })
  }
  return out.sort((a, b) => b.mass - a.mass)
}

/** Tokens of the explored text at which a choice changes the outcome -> nats (semantic). */
export function forking(decisions: readonly ExploreDecision[]): Map<number, number> {
  const out = new Map<number, number>()
  for (const d of decisions) if (d.branch === 0 && d.semantic > 1e-6) out.set(d.at, d.semantic)
  return out
}

/** A share in percent, never rounded to what it is not: 71 %, 0.4 %, <0.1 %. */
export function percent(p: number): string {
  const v = 100 * p
  if (v === 0) return '0 %'
  if (v < 0.1) return '<0.1 %'
  if (v < 10) return `${Number(v.toFixed(1))} %`
  return v > 99 && v < 100 ? `${Math.min(99.9, Number(v.toFixed(1)))} %` : `${Math.round(v)} %`
}
