/** A ledger for drawing: figures of arms on one axis a figure, prompts as they are written down. */
import type { LedgerArm } from '../api/ledger'
import { number } from './format'

/** Prompts are parted by a line of three dashes; none is empty. */
export function promptsOf(text: string): string[] {
  return text
    .split(/^---[ \t]*$/m)
    .map((p) => p.replace(/^\n/, '').replace(/\n$/, ''))
    .filter((p) => p.trim() !== '')
}

export interface Axis {
  lo: number
  hi: number
}

/** Shares of runs: their axis is 0..1, of a difference -1..1. */
const SHARES = new Set(['changed', 'parses'])

/** The axis of a figure that all arms share, so that their intervals compare. Zero is on it. */
export function axisOf(arms: readonly LedgerArm[], figure: string, against: boolean): Axis {
  if (SHARES.has(figure)) return against ? { lo: -1, hi: 1 } : { lo: 0, hi: 1 }
  const ends = arms.flatMap((a) => {
    const f = a.figures.find((x) => x.name === figure)
    const v = against ? f?.against_none : f?.value
    return [v?.low, v?.high, v?.mean].filter((x): x is number => x !== null && x !== undefined)
  })
  const lo = Math.min(0, ...ends)
  const hi = Math.max(0, ...ends)
  const room = 0.05 * (hi - lo || 1)
  return { lo: lo < 0 ? lo - room : 0, hi: hi + room }
}

/** Whether the interval of a difference leaves zero out. */
export function differs(v: { low: number | null; high: number | null }): boolean {
  return v.low !== null && v.high !== null && (v.low > 0 || v.high < 0)
}

/** With its sign: a difference. */
export const signed = (v: number | null): string => (v !== null && v > 0 ? '+' : '') + number(v)
