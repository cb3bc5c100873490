/** Two traces of one text beside each other: values over cells, and what they come to. */
import type { DriftCell } from '../api/drift'
import type { Trace } from './trace'

/** Columns of which the tokens of a cell are added up; of all others the mean is taken. */
const ADDED: ReadonlySet<string> = new Set(['logprob', 'surprisal', 'time_ms'])

type Span = readonly number[]

/** A column over tokens [start, end): NaN where no token has a number. */
export function over(trace: Trace, name: string, [start, end]: Span): number {
  let sum = 0
  let n = 0
  for (let t = start; t < end; t++) {
    const v = trace.value(name, t)
    if (Number.isNaN(v)) continue
    sum += v
    n++
  }
  return n === 0 ? NaN : ADDED.has(name) ? sum : sum / n
}

/** Number of the cell that holds token t of the first side; -1 for none. */
export function cellOf(cells: readonly DriftCell[], t: number): number {
  let lo = 0
  let hi = cells.length - 1
  while (lo <= hi) {
    const mid = (lo + hi) >> 1
    const [start, end] = cells[mid].a
    if (t < start) hi = mid - 1
    else if (t >= end) lo = mid + 1
    else return mid
  }
  return -1
}

/** Per token of the first side, the second's number there: what its cell adds up to is shared by bytes. */
export function beside(a: Trace, b: Trace, name: string, cells: readonly DriftCell[]): Float32Array {
  const out = new Float32Array(a.length).fill(NaN)
  for (const cell of cells) {
    const [start, end] = cell.a
    const v = over(b, name, cell.b)
    const size = a.offsets[end] - a.offsets[start]
    for (let t = start; t < end; t++) {
      const share = size > 0 ? (a.offsets[t + 1] - a.offsets[t]) / size : 1 / (end - start)
      out[t] = ADDED.has(name) ? v * share : v
    }
  }
  return out
}

export interface BitsPerByte {
  a: number
  b: number
  bytes: number
}

/** Bits per byte of both over the cells that both have a number for: what two tokenizers can share. */
export function bitsPerByte(a: Trace, b: Trace, cells: readonly DriftCell[]): BitsPerByte {
  let [nats, other, bytes] = [0, 0, 0]
  for (const cell of cells) {
    const [x, y] = [over(a, 'surprisal', cell.a), over(b, 'surprisal', cell.b)]
    const size = a.offsets[cell.a[1]] - a.offsets[cell.a[0]]
    if (Number.isNaN(x) || Number.isNaN(y) || size === 0) continue
    nats += x
    other += y
    bytes += size
  }
  const per = (n: number): number => (bytes > 0 ? n / Math.LN2 / bytes : NaN)
  return { a: per(nats), b: per(other), bytes }
}

/** How far apart the two were before a cell, in what `over` can tell: nats of KL, or total variation. */
export function apartOf(cell: DriftCell, kind: 'tokens' | 'bytes'): number {
  return (kind === 'tokens' ? cell.apart?.kl : cell.apart?.tv_low) ?? NaN
}

/** A row per cell, to be kept as a table: both texts, columns of both, their difference. */
export function driftRows(
  a: Trace,
  b: Trace,
  names: readonly string[],
  cells: readonly DriftCell[],
): Record<string, unknown>[] {
  const known = (v: number): number | null => (Number.isNaN(v) ? null : v)
  return cells.map((cell) => {
    const row: Record<string, unknown> = {
      token_a: cell.a[0],
      token_b: cell.b[0],
      text: a.span(cell.a[0], cell.a[1]),
      category: cell.category,
      flip: cell.flip === null ? null : Number(cell.flip),
      kl: cell.apart?.kl ?? null,
      tv_low: cell.apart?.tv_low ?? null,
      tv_high: cell.apart?.tv_high ?? null,
    }
    for (const name of names) {
      const [x, y] = [over(a, name, cell.a), over(b, name, cell.b)]
      Object.assign(row, { [`${name}_a`]: known(x), [`${name}_b`]: known(y), [`${name}_difference`]: known(y - x) })
    }
    return row
  })
}
