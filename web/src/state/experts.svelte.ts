/** A mixture of experts: whom the step that chose the selected token asked, layer by layer. */
import { explainApi, type ExpertsOfLayer } from '../api/explain'
import { focus } from './focus.svelte'
import { keep, recall } from './keep'
import { model } from './model.svelte'

const SETTLE_MS = 60 // while arrows run over tokens, do not ask for each: the text is read again
const KEPT = 64

class Experts {
  on = $state(recall('experts', false))
  /** A row per layer; null while there is nothing. */
  layers = $state.raw<ExpertsOfLayer[] | null>(null)
  failure = $state<string | null>(null)
  private cache = new Map<string, ExpertsOfLayer[]>()

  /** Whether the model that wrote the branch is a mixture that can be read. */
  get able(): boolean {
    const info = model.info
    const made = focus.shown?.trace.node.model_digest
    return (info?.expert_layers.length ?? 0) > 0 && info!.abilities.internals && made === info!.model_digest
  }

  show(on: boolean): void {
    this.on = on
    keep('experts', on)
  }

  /** Keep `layers` in step with what is selected. Call inside an effect; returns its clean-up. */
  follow(): (() => void) | undefined {
    const [t, shown] = [focus.token, focus.shown]
    if (!this.on || t === null || t === 0 || !shown || shown.trace.node.status === 'running') {
      this.layers = null
      return
    }
    const node = shown.trace.node.id
    const known = this.cache.get(`${node} ${t}`)
    this.failure = null
    if (known) {
      this.layers = known
      return
    }
    const stop = new AbortController()
    const timer = setTimeout(() => void this.fetch(node, t, stop.signal), SETTLE_MS)
    return () => {
      clearTimeout(timer)
      stop.abort()
    }
  }

  private async fetch(node: string, t: number, signal: AbortSignal): Promise<void> {
    try {
      const found = await explainApi.experts(node, t, signal)
      if (this.cache.size >= KEPT) this.cache.delete(this.cache.keys().next().value!)
      this.cache.set(`${node} ${t}`, found)
      if (!signal.aborted) this.layers = found
    } catch (cause) {
      if (signal.aborted) return
      this.layers = null
      this.failure = cause instanceof Error ? cause.message : String(cause)
    }
  }
}

export const experts = new Experts()
