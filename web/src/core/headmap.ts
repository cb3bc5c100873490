/** Every head of one token: layers by heads as rows, the tokens before it as columns. */
import { shade } from './explain'
import { STEPS } from './ramp'
import type { Weights } from './attention'

export type Order = 'layer' | 'weight'

export interface HeadRow {
  /** Index into the weights: layer times heads plus head. */
  index: number
  layer: number
  head: number
}

/**
 * The rows from top to bottom. By layer: the last one first, as the stream goes up. By weight: what
 * each gives to token `key`, the heaviest first.
 */
export function headRows(w: Weights, layers: readonly number[], order: Order, key: number): HeadRow[] {
  const rows: HeadRow[] = []
  for (let l = w.layers - 1; l >= 0; l--) {
    for (let h = 0; h < w.heads; h++) rows.push({ index: l * w.heads + h, layer: layers[l] ?? l, head: h })
  }
  if (order === 'layer' || key >= w.length) return rows
  const at = (r: HeadRow): number => w.values[r.index * w.length + key] || 0
  return rows.sort((a, b) => at(b) - at(a))
}

/** The heaviest weight of all heads, without token 0 where that is left out: the end of the scale. */
export function heaviestOf(w: Weights, without: boolean): number {
  let most = 0
  for (let i = 0; i < w.values.length; i++) {
    if (without && i % w.length === 0) continue
    if (w.values[i] > most) most = w.values[i]
  }
  return most
}

/** The step of the colour scale of a weight, -1 for none. */
export function stepOf(v: number, most: number): number {
  return v > 0 ? Math.round(shade(v, most) * (STEPS - 1)) : -1
}

export interface Cells {
  width: number
  height: number
}

/** Cells as large as there is room for, and never too small to be told apart or hit. */
export function cellsFor(room: Cells, rows: number, columns: number): Cells {
  const clamp = (v: number, lo: number, hi: number): number => Math.max(lo, Math.min(hi, Math.floor(v)))
  return {
    width: clamp(room.width / Math.max(1, columns), 12, 30),
    height: clamp(room.height / Math.max(1, rows), 8, 20),
  }
}
