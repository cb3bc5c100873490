/** What a branch can be sorted and coloured by: figures of its own part, from the list of nodes. */
import type { NodeInfo } from '../api/types'

export interface Figure {
  name: string
  title: string
  unit: string
  /** undefined figures (NaN) sort last and have no colour. */
  of: (n: NodeInfo) => number
  better: 'low' | 'high' | 'none'
  /** A share of 1: its scale runs from 0 to 1 always. */
  share?: true
}

const or = (v: number | null): number => v ?? NaN

export const FIGURES: readonly Figure[] = [
  {
    name: 'turn',
    title: 'turn, p',
    unit: '',
    of: (n) => (n.turn_logprob === null ? NaN : Math.exp(n.turn_logprob)),
    better: 'high',
    share: true,
  },
  { name: 'own_logprob', title: 'text, ln p', unit: 'nats', of: (n) => or(n.own_logprob), better: 'high' },
  { name: 'own_surprisal', title: 'surprisal', unit: 'nats', of: (n) => or(n.own_surprisal), better: 'low' },
  { name: 'perplexity', title: 'perplexity', unit: '', of: (n) => or(n.summary.perplexity), better: 'low' },
  { name: 'mean_entropy', title: 'entropy', unit: 'nats', of: (n) => or(n.summary.mean_entropy), better: 'low' },
  { name: 'bits_per_byte', title: 'bits per byte', unit: 'bits', of: (n) => or(n.summary.bits_per_byte), better: 'low' },
  { name: 'own_tokens', title: 'length', unit: 'tokens', of: (n) => n.own_tokens, better: 'none' },
  { name: 'at', title: 'place', unit: 'token', of: (n) => (n.parent === null ? NaN : n.at), better: 'none' },
  { name: 'tokens_per_s', title: 'speed', unit: 'tokens/s', of: (n) => or(n.summary.tokens_per_s), better: 'none' },
]

export const figure = (name: string): Figure | null => FIGURES.find((f) => f.name === name) ?? null

/** Kinds of which a branch is exactly one; each gets a colour of its own. */
export const KINDS: Readonly<
  Record<string, { title: string; of: (n: NodeInfo, outcomes: ReadonlyMap<string, string>) => string }>
> = {
  finish: { title: 'how it ended', of: (n) => (n.status === 'done' ? n.finish : n.status) },
  model: { title: 'model', of: (n) => n.model },
  outcome: { title: 'outcome', of: (n, outcomes) => outcomes.get(n.id) ?? 'not explored' },
}
