/** What a column says of some tokens. */
export interface Statistics {
  /** Tokens that have a number. */
  count: number
  mean: number
  sum: number
  lo: number
  hi: number
}

/** Of tokens first..last, both included; undefined numbers do not count. */
export function statistics(values: Float32Array, first: number, last: number): Statistics {
  let count = 0
  let sum = 0
  let lo = Infinity
  let hi = -Infinity
  for (let t = first; t <= last && t < values.length; t++) {
    const v = values[t]
    if (Number.isNaN(v)) continue
    count++
    sum += v
    if (v < lo) lo = v
    if (v > hi) hi = v
  }
  return count === 0
    ? { count, mean: NaN, sum: NaN, lo: NaN, hi: NaN }
    : { count, mean: sum / count, sum, lo, hi }
}
