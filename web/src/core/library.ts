/** The library of models as the page shows it: order, figures, what a way of loading is made of. */
import type { Entry, Plan, Way } from '../api/library'
import type { ModelState } from '../api/types'
import { bytes } from './format'

export type Standing = 'in use' | 'loaded' | 'loading' | 'ready' | 'to fetch' | 'no'

/** Where a model stands: what can be done with it follows. */
export function standing(entry: Entry, state: ModelState | null, chosen: string | null): Standing {
  if (state?.state === 'loading') return 'loading'
  if (state?.state === 'loaded') return state.id === chosen ? 'in use' : 'loaded'
  if (entry.get !== null) return 'to fetch'
  if (entry.offer === null || entry.reason !== null) return 'no'
  return 'ready'
}

export type Sort = 'name' | 'parameters' | 'bytes' | 'context' | 'need'

/** By one figure, what has none last; within the same by name. */
export function sorted(entries: readonly Entry[], by: Sort, down: boolean): Entry[] {
  const sign = down ? -1 : 1
  return [...entries].sort((a, b) => {
    if (by === 'name') return sign * a.name.localeCompare(b.name)
    const [x, y] = [a[by], b[by]]
    if (x === null || y === null) return Number(x === null) - Number(y === null)
    return sign * (x - y) || a.name.localeCompare(b.name)
  })
}

/** Bytes in the unit that a reader compares memory in. */
export function memory(n: number | null): string {
  if (n === null) return '–'
  return n >= 1e9 ? `${(n / 1e9).toFixed(n >= 1e10 ? 1 : 2)} GB` : bytes(n)
}

/** The name of an architecture without what all of them end in. */
export const family = (architecture: string): string =>
  architecture.replace(/For(CausalLM|ConditionalGeneration)$|LMHeadModel$|Model$/, '') || '–'

export interface Segment {
  part: (typeof PARTS)[number]
  bytes: number
}

export const PARTS = ['base', 'weights', 'packed', 'cache', 'work'] as const
export const PART_TITLES: Record<(typeof PARTS)[number], string> = {
  base: 'process',
  weights: 'weights',
  packed: 'packed copy',
  cache: 'keys and values',
  work: 'largest pass',
}

/** What a way of loading takes at its peak, part by part; nothing that is nothing. */
export const segments = (way: Way): Segment[] =>
  PARTS.map((part) => ({ part, bytes: way[part] })).filter((s) => s.bytes > 0)

/**
 * The end of the scale on which all ways of a plan are drawn. What is free is on it, unless that is
 * so much more that the parts could not be told apart.
 */
export function most(plan: Plan): number {
  const largest = Math.max(1, ...plan.choices.map((c) => c.total))
  return Math.max(largest, plan.free <= 3 * largest ? plan.free : 0)
}

/** Whether a way is the one that is loaded already. */
export const isLoaded = (way: Way, state: ModelState | null): boolean =>
  state?.state === 'loaded' && (way.dtype === null ? way.way === 'gguf' : state.dtype === way.dtype)
