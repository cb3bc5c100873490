/** What the reader looks at: the branch that is shown, the token selected, what it is compared with. */
import { neighbour } from '../core/tree'
import type { Trace } from '../core/trace'
import { look } from './look.svelte'
import { notices } from './notices.svelte'
import { sessions } from './sessions.svelte'
import { traces } from './traces.svelte'

/** A trace in a fresh wrapper each time that it has grown or got numbers: that is what to watch. */
export interface Shown {
  trace: Trace
  version: number
}

export type Stage =
  | 'compose' // writing a prompt
  | 'loading'
  | 'trace'
  | 'failed'

/** An answer that the model did not give, to compare with the one that it gave (A rather than B). */
export interface Contrast {
  id: number
  text: string
}

class Focus {
  stage = $state<Stage>('compose')
  node = $state<string | null>(null)
  shown = $state.raw<Shown | null>(null)
  failure = $state<string | null>(null)
  /** Selected token, and the other end of a range where more than one is selected. */
  token = $state<number | null>(null)
  anchor = $state<number | null>(null)
  hovered = $state<number | null>(null)
  contrast = $state.raw<Contrast | null>(null)
  /** Name of the view in the middle (see views/registry). */
  view = $state('scope')
  /** Name of a view that needs no trace (the models), while it stands in front of all others. */
  aside = $state<string | null>(null)
  private version = 0
  private asked = 0

  /** First and last selected token. */
  range: { first: number; last: number } | null = $derived(
    this.token === null || this.anchor === null || this.token === this.anchor
      ? null
      : { first: Math.min(this.token, this.anchor), last: Math.max(this.token, this.anchor) },
  )

  /** Show a branch; keeps the selected token where both branches have it. */
  async show(node: string, token: number | null = this.token): Promise<void> {
    const ask = ++this.asked
    this.aside = null
    this.node = node
    this.failure = null
    const known = traces.get(node)
    if (!known) this.stage = 'loading'
    try {
      const trace = known ?? (await traces.load(node))
      if (ask !== this.asked) return
      this.present(trace, token)
      await traces.alternatives(trace)
      if (ask === this.asked) this.grew(trace)
    } catch (cause) {
      if (ask !== this.asked) return
      this.shown = null
      this.failure = cause instanceof Error ? cause.message : String(cause)
      this.stage = 'failed'
    }
  }

  /** Put a trace that is at hand on the surface. */
  present(trace: Trace, token: number | null): void {
    this.node = trace.node.id
    this.select(token !== null && token < trace.length ? token : null)
    this.stage = 'trace'
    this.grew(trace)
  }

  /** The trace has grown or got numbers. */
  grew(trace: Trace): void {
    if (this.node !== trace.node.id) return
    const running = trace.node.status === 'running'
    for (const name of trace.columnNames) look.fixRange(name, trace.column(name)!, running)
    this.shown = { trace, version: ++this.version }
  }

  compose(): void {
    this.asked++
    this.aside = null
    this.stage = 'compose'
    this.node = null
    this.shown = null
    this.select(null)
  }

  select(token: number | null, extend = false): void {
    if (token !== this.token) this.contrast = null
    this.token = token
    if (!extend || token === null) this.anchor = token
  }

  /** Move the selection by n tokens. */
  walk(n: number, extend = false): void {
    const trace = this.shown?.trace
    if (!trace || trace.length === 0) return
    const from = this.token ?? (n > 0 ? trace.nPrompt - 1 : trace.length)
    this.select(Math.min(trace.length - 1, Math.max(0, from + n)), extend)
  }

  /** To the neighbouring branch. */
  async turn(step: 1 | -1): Promise<void> {
    const next = this.node && neighbour(sessions.nodes, this.node, step)
    if (next) await this.show(next)
    else notices.say('There is no other branch here yet.')
  }
}

export const focus = new Focus()
