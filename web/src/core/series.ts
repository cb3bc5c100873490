/** A column over thousands of tokens in a strip some hundred pixels wide. */

/** Lowest and highest finite value in each of `bins` equal parts of from..to; NaN in an empty one. */
export function envelope(
  values: Float32Array,
  from: number,
  to: number,
  bins: number,
): { lo: Float32Array; hi: Float32Array } {
  const lo = new Float32Array(bins).fill(NaN)
  const hi = new Float32Array(bins).fill(NaN)
  const first = Math.max(0, Math.floor(from))
  const last = Math.min(values.length, Math.ceil(to))
  for (let t = first; t < last; t++) {
    const v = values[t]
    if (Number.isNaN(v)) continue
    const b = Math.min(bins - 1, Math.max(0, Math.floor(((t - from) / (to - from)) * bins)))
    if (!(lo[b] <= v)) lo[b] = v
    if (!(hi[b] >= v)) hi[b] = v
  }
  return { lo, hi }
}

export interface Window {
  from: number
  to: number
}

/** Zoom by `factor` about token `centre`, held inside 0..length and never below `least` tokens. */
export function zoomed(w: Window, centre: number, factor: number, length: number, least = 8): Window {
  const size = Math.min(length, Math.max(Math.min(least, length), (w.to - w.from) * factor))
  const share = w.to > w.from ? (centre - w.from) / (w.to - w.from) : 0.5
  return moved({ from: centre - share * size, to: centre - share * size + size }, 0, length)
}

/** Shift by `by` tokens, held inside 0..length. */
export function moved(w: Window, by: number, length: number): Window {
  const size = Math.min(length, w.to - w.from)
  const from = Math.min(length - size, Math.max(0, w.from + by))
  return { from, to: from + size }
}
