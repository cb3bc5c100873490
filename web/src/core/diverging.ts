/**
 * The scale of what speaks for and against: neutral paper in the middle, equal steps to both sides,
 * orange for A and blue against it (a pair that every colour blindness keeps apart).
 */
import { build, STEPS, type Lch, type Ramp, type Theme } from './ramp'

// The strong ends stop where ink still reads well on them (4.5 : 1, tested).
const POINTS: Record<Theme, Lch[]> = {
  light: [
    [0.64, 0.125, 254],
    [0.76, 0.085, 252],
    [0.87, 0.045, 250],
    [0.985, 0.004, 90],
    [0.88, 0.065, 66],
    [0.78, 0.12, 58],
    [0.68, 0.17, 48],
  ],
  dark: [
    [0.5, 0.13, 258],
    [0.4, 0.1, 260],
    [0.3, 0.05, 262],
    [0.2, 0.008, 265],
    [0.31, 0.055, 48],
    [0.41, 0.1, 46],
    [0.51, 0.135, 45],
  ],
}

const built = new Map<Theme, Ramp>()

export function diverging(theme: Theme): Ramp {
  let ramp = built.get(theme)
  if (!ramp) {
    ramp = build(POINTS[theme])
    built.set(theme, ramp)
  }
  return ramp
}

/** Step of v on a scale from -most to most; -1 for no number. */
export function side(v: number, most: number): number {
  if (!Number.isFinite(v)) return -1
  const place = most > 0 ? Math.min(1, Math.max(-1, v / most)) : 0
  return Math.round(((place + 1) / 2) * (STEPS - 1))
}

/** The largest absolute value, ignoring what is no number. */
export function reach(values: Iterable<number | null>): number {
  let most = 0
  for (const v of values) if (v !== null && Math.abs(v) > most) most = Math.abs(v)
  return most
}
