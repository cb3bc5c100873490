/** From a number to a place on a scale, the same for every branch so that colours compare. */
import type { ColumnInfo } from '../api/types'

export interface Range {
  lo: number
  hi: number
}

/** What a scale needs to know of a column; columns that the server does not describe get `plain`. */
export type Spec = Pick<
  ColumnInfo,
  'name' | 'title' | 'unit' | 'formula' | 'source' | 'lo' | 'hi' | 'better' | 'scale'
>

export function plain(name: string): Spec {
  return {
    name,
    title: name.replaceAll('_', ' '),
    unit: '',
    formula: '',
    source: '',
    lo: null,
    hi: null,
    better: 'none',
    scale: 'linear',
  }
}

/** The q-quantile of the finite values (nearest rank), NaN if there are none. */
export function quantile(values: Iterable<number>, q: number): number {
  const finite = Float64Array.from([...values].filter(Number.isFinite)).sort()
  if (finite.length === 0) return NaN
  return finite[Math.min(finite.length - 1, Math.max(0, Math.ceil(q * finite.length) - 1))]
}

/** The smallest of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten that is not below x. */
export function niceAbove(x: number): number {
  if (!(x > 0)) return 1
  const power = 10 ** Math.floor(Math.log10(x))
  for (const m of [1, 1.5, 2, 3, 4, 5, 6, 8]) if (m * power >= x * (1 - 1e-9)) return m * power
  return 10 * power
}

/**
 * Ends of a column's scale. An end that the column leaves open comes from the data, robustly
 * (98th centile) and rounded, so that one odd token does not wash out all others.
 */
export function rangeOf(spec: Spec, values: Iterable<number>): Range {
  const all = spec.lo === null || spec.hi === null ? [...values] : []
  let lo = spec.lo ?? NaN
  let hi = spec.hi ?? NaN
  if (Number.isNaN(hi)) {
    const top = quantile(all, 0.98)
    hi = Number.isNaN(top) ? 1 : top > 0 ? niceAbove(top) : 0
  }
  if (Number.isNaN(lo)) {
    const bottom = quantile(all, 0.02)
    lo = Number.isNaN(bottom) || bottom >= 0 ? 0 : -niceAbove(-bottom)
  }
  if (spec.scale === 'log') lo = Math.max(lo, Math.min(1, hi / 1e6) || 1e-6)
  if (!(hi > lo)) hi = lo + 1
  return { lo, hi }
}

/** A range that holds every finite value: for pictures where a number cut off would mislead. */
export function rangeHolding(range: Range, values: Float32Array): Range {
  let { lo, hi } = range
  let least = lo
  let most = hi
  for (const v of values) {
    if (v < least && v !== -Infinity) least = v
    if (v > most && v !== Infinity) most = v
  }
  if (most > hi) hi = niceAbove(most)
  if (least < lo) lo = least < 0 ? -niceAbove(-least) : least
  return { lo, hi }
}

/** Where v lies between the ends, 0..1 and held there; NaN for an undefined number. */
export function place(v: number, range: Range, scale: 'linear' | 'log'): number {
  if (Number.isNaN(v)) return NaN
  const p =
    scale === 'log'
      ? Math.log(Math.max(v, Number.MIN_VALUE) / range.lo) / Math.log(range.hi / range.lo)
      : (v - range.lo) / (range.hi - range.lo)
  return Math.min(1, Math.max(0, p))
}

/** The number at place p: the inverse of `place` inside the ends. */
export function at(p: number, range: Range, scale: 'linear' | 'log'): number {
  return scale === 'log'
    ? range.lo * (range.hi / range.lo) ** p
    : range.lo + p * (range.hi - range.lo)
}

/** Round numbers inside the range: about n of them. */
export function ticks(range: Range, scale: 'linear' | 'log', n = 4): number[] {
  const out: number[] = []
  if (scale === 'log') {
    for (let e = Math.ceil(Math.log10(range.lo) - 1e-9); 10 ** e <= range.hi * (1 + 1e-9); e++) {
      out.push(10 ** e)
    }
    return out
  }
  const rough = (range.hi - range.lo) / Math.max(1, n)
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * (1 - 1e-9))!
  for (let v = Math.ceil(range.lo / step - 1e-9) * step; v <= range.hi + step * 1e-9; v += step) {
    out.push(Math.abs(v) < step * 1e-9 ? 0 : v)
  }
  return out
}
