/** How likely a human would change each line of the branch that is shown: on request, it takes seconds. */
import { evidenceApi, type EditLikelihood } from '../api/evidence'
import { focus } from './focus.svelte'

export const LIKELIHOOD = 'edit_likelihood'

class LikelihoodState {
  node = $state<string | null>(null)
  made = $state.raw<EditLikelihood | null>(null)
  failure = $state<string | null>(null)
  asking = $state(false)
  private line: AbortController | null = null

  async ask(): Promise<void> {
    const trace = focus.shown?.trace
    if (!trace) return
    this.line?.abort()
    const line = (this.line = new AbortController())
    Object.assign(this, { node: trace.node.id, made: null, failure: null, asking: true })
    try {
      const made = await evidenceApi.likelihood(trace.node.id, line.signal)
      if (!line.signal.aborted) this.made = made
    } catch (cause) {
      if (!line.signal.aborted) this.failure = cause instanceof Error ? cause.message : String(cause)
    }
    if (this.line === line) this.asking = false
  }

  /** Give the branch the column, so that it can be coloured by it. Call inside an effect. */
  wear(): void {
    const trace = focus.shown?.trace
    if (!trace || !this.made || this.node !== trace.node.id || trace.column(LIKELIHOOD)) return
    trace.wear(LIKELIHOOD, 0, this.made.values)
    focus.grew(trace)
  }
}

export const likelihood = new LikelihoodState()
