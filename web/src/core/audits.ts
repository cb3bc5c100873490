/** Audits for drawing: the axis of a gate, time that is left, the tokens of a sample. */
import type { AuditInfo, AuditSample, Bound } from '../api/audits'
import { fromBase64, toText } from './bytes'
import { number, probability } from './format'
import { niceAbove } from './scale'

export interface Axis {
  lo: number
  hi: number
}

/** Figures that are shares of 1: their axis ends there. */
export const isShare = (figure: string): boolean => /(?:\.risk|_rate|\.flips)$/.test(figure)

/**
 * The axis on which an interval is drawn against its limit: it holds both with room around them, and
 * of a share no more than 0..1. An end that is not there (null) lies beyond the axis.
 */
export function axisOf(figure: string, bound: Pick<Bound, 'lower' | 'upper' | 'value'>, limit: number | null): Axis {
  const held = [bound.lower, bound.upper, bound.value, limit].filter((v): v is number => v !== null)
  if (held.length === 0) return { lo: 0, hi: 1 }
  const least = Math.min(...held)
  const most = Math.max(...held)
  const room = 0.15 * (most - least || Math.abs(most) || 1)
  if (!isShare(figure)) {
    return { lo: least >= 0 && least < most / 2 ? 0 : least - room, hi: niceAbove(most + room) }
  }
  const lo = least < 0.5 ? 0 : Math.floor(10 * (least - room)) / 10
  const hi = most > 0.5 ? 1 : niceAbove(most + room)
  return { lo: Math.max(0, lo), hi: Math.min(1, hi) }
}

/** Ends of an interval as numbers on the axis. */
export function endsOf(bound: Pick<Bound, 'lower' | 'upper'>, axis: Axis): [number, number] {
  return [bound.lower ?? axis.lo, bound.upper ?? axis.hi]
}

/** A figure as a reader wants it: shares as probabilities, others as numbers. */
export function figureText(figure: string, v: number | null): string {
  if (v === null) return '–'
  return isShare(figure) ? probability(v) : number(v)
}

/** What a figure counts. */
export function unitOf(figure: string): string {
  if (figure.startsWith('surprisal.statement')) return 'statement'
  if (/^(surprisal|drift)\./.test(figure)) return 'token'
  return figure === 'error_rate' ? 'case' : 'sample'
}

/** Seconds, coarsely: what an estimate is good for. */
export function duration(s: number): string {
  if (s < 1.5) return 'a second'
  if (s < 90) return `${Math.round(s)} s`
  if (s < 5400) return `${Math.round(s / 60)} min`
  return `${(s / 3600).toFixed(1)} h`
}

/** How far it is, and how long it may still take. */
export function progressText(info: Pick<AuditInfo, 'done' | 'total' | 'left_s'>): string {
  const of = info.total === null ? `${info.done} cases` : `${info.done} of ${info.total} cases`
  return info.left_s === null ? of : `${of}, about ${duration(info.left_s)} left`
}

export interface SampleToken {
  index: number
  text: string
  label: boolean
  prompt: boolean
  surprisal: number
  severity: '' | 'low' | 'medium' | 'high'
}

const RANK = ['', 'low', 'medium', 'high'] as const

/** The tokens of a sample as text. Bytes of a character that is split stand with its last token. */
export function tokensOf(sample: AuditSample): SampleToken[] {
  const data = fromBase64(sample.data)
  const worst = new Map<number, number>()
  for (const f of sample.findings) {
    if (!f.tokens) continue
    for (let t = f.tokens[0]; t < f.tokens[1]; t++) {
      worst.set(t, Math.max(worst.get(t) ?? 0, RANK.indexOf(f.severity)))
    }
  }
  return sample.ids.map((_, t) => ({
    index: t,
    text: sample.labels[String(t)] ?? toText(data.subarray(sample.offsets[t], sample.offsets[t + 1])),
    label: String(t) in sample.labels,
    prompt: t < sample.n_prompt,
    surprisal: sample.surprisal[t] ?? NaN,
    severity: RANK[worst.get(t) ?? 0],
  }))
}

/** How many lines of an uploaded text hold something. */
export const linesOf = (text: string): number => text.split('\n').filter((line) => line.trim() !== '').length
