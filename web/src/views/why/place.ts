import type { Trace } from '../../core/trace'

/** The token that holds a byte of the text. */
export function tokenAt(trace: Trace, byte: number): number {
  let [lo, hi] = [0, trace.length - 1]
  while (lo < hi) {
    const middle = (lo + hi) >> 1
    if (trace.offsets[middle + 1] <= byte) lo = middle + 1
    else hi = middle
  }
  return lo
}
