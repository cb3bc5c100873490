/** How far the distributions of two models lie apart, per token of the first. */
import type { Drift } from '../../api/drift'
import { apartOf } from '../../core/drift'
import { niceAbove, quantile, type Range } from '../../core/scale'

/** Of the first token of each cell, where it was measured; NaN elsewhere. */
export function apartValues(drift: Drift, length: number): Float32Array {
  const out = new Float32Array(length).fill(NaN)
  if (drift.over === null) return out
  for (const cell of drift.cells) if (cell.a[0] < length) out[cell.a[0]] = apartOf(cell, drift.over)
  return out
}

export function apartRange(values: Float32Array): Range {
  const top = quantile(values, 0.98)
  return { lo: 0, hi: top > 0 ? niceAbove(top) : 1 }
}
