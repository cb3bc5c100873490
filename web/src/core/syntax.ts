/**
 * The syntax tree of a branch, as the server's flat lists: regions in pre-order, and cells.
 *
 * A cell is what lies between two cuts of the text: it belongs to one token, one deepest region and
 * one category. Any region is a range of cells, so sums over regions are sums over ranges.
 */
import type { StructureResponse } from '../api/structure'

export type Unit = 'tokens' | 'bytes'

/** Index of the last entry that is not above `value`; entries ascend. */
export function lastNotAbove(entries: ArrayLike<number>, value: number): number {
  let lo = 0
  let hi = entries.length
  while (lo < hi) {
    const mid = (lo + hi) >> 1
    if (entries[mid] <= value) lo = mid + 1
    else hi = mid
  }
  return lo - 1
}

export class Syntax {
  readonly size: number
  /** How many tokens the cells reach; a growing branch may have more by now. */
  readonly covered: number
  /** Cells `first[t]..first[t + 1]` belong to token t. */
  private readonly first: Int32Array
  /** Tokens (in parts) before each cell. */
  private readonly shares: Float64Array
  readonly errors: ReadonlySet<number>
  readonly missing: ReadonlySet<number>
  private near = new Map<number, Int32Array>()

  constructor(readonly raw: StructureResponse) {
    const { cell_start, cell_token } = raw
    const cells = cell_token.length
    this.size = cell_start[cells] ?? 0
    this.covered = raw.tokens
    this.errors = new Set(raw.error)
    this.missing = new Set(raw.missing)
    this.first = new Int32Array(raw.tokens + 1)
    const bytes = new Float64Array(raw.tokens)
    for (let c = 0; c < cells; c++) bytes[cell_token[c]] += cell_start[c + 1] - cell_start[c]
    this.shares = new Float64Array(cells + 1)
    let t = 0
    for (let c = 0; c < cells; c++) {
      while (t <= cell_token[c]) this.first[t++] = c
      this.shares[c + 1] = this.shares[c] + (cell_start[c + 1] - cell_start[c]) / bytes[cell_token[c]]
    }
    while (t <= raw.tokens) this.first[t++] = cells
  }

  get length(): number {
    return this.raw.kind.length
  }

  kind(region: number): string {
    return this.raw.kinds[this.raw.kind[region]] ?? '?'
  }

  name(region: number): string | null {
    return this.raw.names[String(region)] ?? null
  }

  is(region: number, bit: number): boolean {
    return (this.raw.level[region] & bit) !== 0
  }

  /** The deepest region at a byte. */
  innermost(byte: number): number {
    let region = lastNotAbove(this.raw.start, byte)
    while (region > 0 && this.raw.end[region] <= byte) region = this.raw.parent[region]
    return Math.max(0, region)
  }

  /** From the file down to `region`. */
  path(region: number): number[] {
    const out: number[] = []
    for (let r = region; r >= 0; r = this.raw.parent[r]) out.push(r)
    return out.reverse()
  }

  /** Per region: the nearest of itself and its ancestors with one of these level bits, or -1. */
  nearest(bits: number): Int32Array {
    let found = this.near.get(bits)
    if (!found) {
      found = new Int32Array(this.length)
      for (let r = 0; r < this.length; r++) {
        const parent = this.raw.parent[r]
        found[r] = this.is(r, bits) ? r : parent < 0 ? -1 : found[parent]
      }
      this.near.set(bits, found)
    }
    return found
  }

  /** The range of cells of a region. */
  cells(region: number): [number, number] {
    const { cell_start, start, end } = this.raw
    return [lastNotAbove(cell_start, start[region] - 1) + 1, lastNotAbove(cell_start, end[region] - 1) + 1]
  }

  cellsOfToken(t: number): [number, number] {
    return t < this.covered ? [this.first[t], this.first[t + 1]] : [0, 0]
  }

  /** The region that holds most of a token's bytes; the last of equals, so that ink beats blanks. */
  regionOfToken(t: number): number {
    const [from, to] = this.cellsOfToken(t)
    let best = -1
    let most = 0
    for (let c = from; c < to; c++) {
      const size = this.raw.cell_start[c + 1] - this.raw.cell_start[c]
      if (size >= most) {
        most = size
        best = this.raw.cell_region[c]
      }
    }
    return best
  }

  /** First and last token that overlap a region; null for one without bytes. */
  tokens(region: number): { first: number; last: number } | null {
    const [from, to] = this.cells(region)
    if (from >= to) return null
    return { first: this.raw.cell_token[from], last: this.raw.cell_token[to - 1] }
  }

  /** Position of a cell boundary on the axis of an icicle. */
  measure(cell: number, unit: Unit): number {
    return unit === 'bytes' ? this.raw.cell_start[cell] : this.shares[cell]
  }
}
