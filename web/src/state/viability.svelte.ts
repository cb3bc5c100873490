/** Whether each alternative of the selected token could go on to parse: asked for when shown. */
import { structureApi, type Verdict } from '../api/structure'
import { Lru } from '../core/lru'
import type { Trace } from '../core/trace'
import { focus } from './focus.svelte'

const KEPT = 4096 // verdicts
const SETTLE_MS = 120 // while arrows run over tokens, do not ask for each

class Viability {
  /** Verdict by alternative id; empty while there is none. */
  of = $state.raw<ReadonlyMap<number, Verdict>>(new Map())
  private known = new Lru<ReadonlyMap<number, Verdict>>(KEPT, (verdicts) => verdicts.size)

  /** Keep `of` in step with the selected token. Call inside an effect; returns its clean-up. */
  follow(): (() => void) | undefined {
    const t = focus.token
    const trace = focus.shown?.trace
    this.of = new Map()
    if (t === null || t === 0 || !trace || trace.node.status === 'running' || !trace.hasAlternatives) return
    const key = `${trace.node.id} ${t}`
    const known = this.known.get(key)
    if (known) {
      this.of = known
      return
    }
    const stop = new AbortController()
    const timer = setTimeout(() => void this.ask(trace, t, key, stop.signal), SETTLE_MS)
    return () => {
      clearTimeout(timer)
      stop.abort()
    }
  }

  private async ask(trace: Trace, t: number, key: string, signal: AbortSignal): Promise<void> {
    try {
      const { verdicts } = await structureApi.viability(trace.node.id, t, '', signal)
      const found = new Map(trace.alternatives(t).map((a, i) => [a.id, verdicts[i] ?? 'unknown']))
      this.known.put(key, found)
      if (!signal.aborted) this.of = found
    } catch {
      // a badge that cannot be had is left out: the numbers beside it stand on their own
    }
  }
}

export const viability = new Viability()
