/**
 * A column over regions, as the server's `rollup` does it: the mean is weighted by overlapping
 * bytes, a sum counts a split token in part, minimum, maximum and top count each token once.
 */
import type { Syntax } from './syntax'

export type Aggregate = 'mean' | 'min' | 'max' | 'sum' | 'top'
export type Part = 'generated' | 'all'

export const AGGREGATES: { value: Aggregate; title: string; hint: string }[] = [
  { value: 'mean', title: 'mean', hint: 'weighted by overlapping bytes' },
  { value: 'max', title: 'max', hint: 'largest value of a token' },
  { value: 'min', title: 'min', hint: 'smallest value of a token' },
  { value: 'top', title: 'top 3', hint: 'mean of the three largest values' },
  { value: 'sum', title: 'sum', hint: 'a token that is split counts in part' },
]

export interface Sums {
  value: number
  /** Spread: standard deviation, weighted like the mean. */
  std: number
  /** Tokens that entered. */
  count: number
  /** The values that entered, in the order of the text. */
  values: number[]
}

const TOP = 3

/** The aggregate over the cells of `ranges` (each from..to). */
export function over(
  syntax: Syntax,
  values: Float32Array,
  ranges: Iterable<readonly [number, number]>,
  from: number,
  how: Aggregate,
): Sums {
  const { cell_start, cell_token } = syntax.raw
  const entered: number[] = []
  let mass = 0
  let mean = 0
  let spread = 0
  let total = 0
  let last = -1
  for (const [lo, hi] of ranges) {
    for (let c = lo; c < hi; c++) {
      const t = cell_token[c]
      const v = values[t]
      if (t < from || !Number.isFinite(v)) continue
      const bytes = cell_start[c + 1] - cell_start[c]
      // West's update: no difference of large sums, so a small spread far from zero is kept
      mass += bytes
      const step = v - mean
      mean += (bytes / mass) * step
      spread += bytes * step * (v - mean)
      total += v * (syntax.measure(c + 1, 'tokens') - syntax.measure(c, 'tokens'))
      if (t !== last) entered.push(v)
      last = t
    }
  }
  const std = mass > 0 ? Math.sqrt(spread / mass) : NaN
  return { value: pick(), std, count: entered.length, values: entered }

  function pick(): number {
    if (entered.length === 0) return NaN
    if (how === 'mean') return mean
    if (how === 'sum') return total
    if (how === 'min') return entered.reduce((a, b) => Math.min(a, b))
    if (how === 'max') return entered.reduce((a, b) => Math.max(a, b))
    const top = entered.toSorted((a, b) => b - a).slice(0, TOP)
    return top.reduce((a, b) => a + b, 0) / top.length
  }
}

/** The aggregate of every region that has one of the level bits; NaN elsewhere and where empty. */
export function overRegions(
  syntax: Syntax,
  values: Float32Array,
  bits: number,
  from: number,
  how: Aggregate,
): Float64Array {
  const out = new Float64Array(syntax.length).fill(NaN)
  for (let r = 0; r < syntax.length; r++) {
    if (syntax.is(r, bits)) out[r] = over(syntax, values, [syntax.cells(r)], from, how).value
  }
  return out
}

export interface KindRow extends Sums {
  kind: string
  /** How many regions (for leaves: runs of cells) are of this kind. */
  regions: number
}

/** All regions of a level by kind. Each cell counts for the innermost region of the level only. */
export function byKind(
  syntax: Syntax,
  values: Float32Array,
  bits: number,
  from: number,
  how: Aggregate,
): KindRow[] {
  const near = syntax.nearest(bits)
  const ranges = new Map<string, [number, number][]>()
  const held = new Map<string, Set<number>>()
  syntax.raw.cell_region.forEach((deepest, c) => {
    const region = near[deepest]
    if (region < 0) return
    const kind = syntax.kind(region)
    const known = ranges.get(kind)
    const last = known?.at(-1)
    if (last?.[1] === c) last[1] = c + 1
    else if (known) known.push([c, c + 1])
    else ranges.set(kind, [[c, c + 1]])
    const regions = held.get(kind) ?? new Set<number>()
    held.set(kind, regions.add(region))
  })
  return [...ranges].map(([kind, cells]) => ({
    kind,
    regions: held.get(kind)!.size,
    ...over(syntax, values, cells, from, how),
  }))
}

/** Cells by what they are: a category, or the kind of their leaf. */
export function byLeaf(
  syntax: Syntax,
  values: Float32Array,
  nameOf: (cell: number) => string,
  from: number,
  how: Aggregate,
): KindRow[] {
  const ranges = new Map<string, [number, number][]>()
  for (let c = 0; c < syntax.raw.cell_token.length; c++) {
    const name = nameOf(c)
    const known = ranges.get(name)
    if (known) known.push([c, c + 1])
    else ranges.set(name, [[c, c + 1]])
  }
  return [...ranges].map(([kind, cells]) => ({
    kind,
    regions: cells.length,
    ...over(syntax, values, cells, from, how),
  }))
}

/** Counts in `bins` equal parts of lo..hi; what lies outside counts in the first or last. */
export function histogram(values: number[], lo: number, hi: number, bins: number): number[] {
  const out = new Array<number>(bins).fill(0)
  for (const v of values) {
    const at = Math.floor(((v - lo) / (hi - lo || 1)) * bins)
    out[Math.min(bins - 1, Math.max(0, at))] += 1
  }
  return out
}
