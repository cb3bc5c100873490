/** What the model could have written at a token: the alternatives, the one written, the rest. */
import type { Trace } from './trace'

export interface Choice {
  id: number
  /** How it is spelt, on one line and with nothing hidden. */
  text: string
  special: boolean
  probability: number
  /** 1 = most likely; null for a rank that is not known. */
  rank: number | null
  chosen: boolean
}

export interface Distribution {
  choices: Choice[]
  /** Mass of all other tokens: choices and rest sum to 1. */
  rest: number
}

/** null where the model was not asked: token 0, or a trace recorded without alternatives. */
export function distributionAt(trace: Trace, t: number): Distribution | null {
  const p = trace.value('probability', t)
  const chosenId = trace.ids[t]
  const choices: Choice[] = trace.alternatives(t).map(({ id, logprob }, i) => ({
    id,
    text: trace.shownId(id),
    special: trace.isSpecial(id),
    probability: Math.exp(logprob),
    rank: i + 1,
    chosen: id === chosenId,
  }))
  if (choices.length === 0 && Number.isNaN(p)) return null
  if (!choices.some((c) => c.chosen)) {
    const logprob = trace.value('logprob', t)
    const known = Number.isNaN(p) ? Math.exp(logprob) : p
    if (Number.isNaN(known)) return null
    const rank = trace.value('rank', t)
    choices.push({
      id: chosenId,
      text: trace.shown(t),
      special: trace.specials.has(t),
      probability: known,
      rank: Number.isNaN(rank) ? null : rank,
      chosen: true,
    })
  }
  const sum = choices.reduce((s, c) => s + c.probability, 0)
  return { choices, rest: Math.max(0, 1 - sum) }
}
