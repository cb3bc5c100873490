/** Runs in progress: starts them, takes their events in, paints at most once a frame. */
import { api } from '../api/client'
import { Unreachable } from '../api/errors'
import type { ForkRequest, StreamEvent } from '../api/types'
import { Trace } from '../core/trace'
import { focus } from './focus.svelte'
import { notices } from './notices.svelte'
import { sessions } from './sessions.svelte'
import { decoding } from './settings.svelte'
import { traces } from './traces.svelte'

export interface Run {
  id: string
  node: string
  /** Prompt tokens scored so far, of all; null once decoding has begun. */
  prefill: { done: number; total: number } | null
  made: number
  /** Most new tokens that it may make. */
  limit: number
  tokensPerS: number | null
}

export type Prompt =
  | { kind: 'complete'; text: string; language: string }
  | { kind: 'infill'; text: string; suffix: string; language: string }
  | { kind: 'chat'; messages: { role: string; content: string }[] }
  | { kind: 'score'; text: string; language: string }

/** What takes the place of a token and of all after it. */
export type Replacement = { token_id: number } | { text: string }

class Runs {
  byNode = $state.raw<Record<string, Run>>({})
  /** A request is on its way and has not answered yet. */
  asking = $state(false)
  current: Run | null = $derived((focus.node && this.byNode[focus.node]) || null)
  private dirty = new Set<Trace>()
  private frame = 0

  /** A new root in `session`, or in a session of its own. */
  async generate(prompt: Prompt, inOpenSession: boolean): Promise<void> {
    await this.guarded(async () => {
      const session = (inOpenSession && sessions.open) || (await sessions.create())
      const settings = decoding.request
      const stream =
        prompt.kind === 'score'
          ? api.score(session.id, {
              text: prompt.text,
              language: prompt.language,
              alternatives: settings.alternatives,
            })
          : api.generate(session.id, {
              prompt: prompt.kind === 'chat' ? null : prompt.text,
              suffix: prompt.kind === 'infill' ? prompt.suffix : null,
              messages: prompt.kind === 'chat' ? prompt.messages : null,
              language: prompt.kind === 'chat' ? '' : prompt.language,
              settings,
            })
      await this.follow(stream, null, prompt.kind === 'score' ? 0 : settings.max_new_tokens)
    })
  }

  /** A branch from the shown trace that differs at token `at`. */
  async fork(at: number, by: Replacement): Promise<void> {
    const parent = focus.shown?.trace
    if (!parent) return
    const settings = decoding.request
    const body: ForkRequest = { at, token_id: null, token_ids: null, text: null, ...by, settings }
    await this.guarded(() =>
      this.follow(api.fork(parent.node.id, body), parent, settings.max_new_tokens, at),
    )
  }

  async stop(run = this.current): Promise<void> {
    if (!run) return
    try {
      await api.cancel(run.id)
    } catch (cause) {
      notices.fail(cause, 'Could not stop.')
    }
  }

  private async guarded(work: () => Promise<void>): Promise<void> {
    this.asking = true
    try {
      await work()
    } catch (cause) {
      if (!(cause instanceof Unreachable)) notices.fail(cause)
    } finally {
      this.asking = false
      void sessions.refresh().catch(() => undefined)
    }
  }

  private async follow(
    stream: AsyncGenerator<StreamEvent>,
    parent: Trace | null,
    limit: number,
    token: number | null = null,
  ): Promise<void> {
    let trace: Trace | null = null
    let decodeStart = 0
    const change = (part: Partial<Run>): void => {
      const run = trace && this.byNode[trace.node.id]
      if (run) this.byNode = { ...this.byNode, [run.node]: { ...run, ...part } }
    }
    try {
      for await (const event of stream) {
        if (event.type === 'start') {
          this.asking = false
          const { node, run } = event
          trace = parent ? Trace.branchOf(parent, node, event.shared) : new Trace(node)
          traces.put(trace)
          this.byNode = {
            ...this.byNode,
            [node.id]: { id: run, node: node.id, prefill: null, made: 0, limit, tokensPerS: null },
          }
          sessions.putNode(node)
          focus.present(trace, null)
        } else if (!trace) {
          if (event.type === 'error') throw new Error(event.message)
        } else if (event.type === 'progress') {
          change({ prefill: { done: event.done, total: event.total } })
        } else if (event.type === 'step') {
          trace.append(event)
          if (!event.prompt) {
            const made = (this.byNode[trace.node.id]?.made ?? 0) + event.ids.length
            if (decodeStart === 0) decodeStart = performance.now()
            const seconds = (performance.now() - decodeStart) / 1000
            const tokensPerS = seconds > 0.05 ? (made - 1) / seconds : null
            change({ prefill: null, made, tokensPerS })
          }
          this.paint(trace)
          if (token !== null && trace.length > token && focus.node === trace.node.id) {
            if (focus.token === null) focus.select(token)
            token = null
          }
        } else if (event.type === 'end') {
          trace.node = event.node
          sessions.putNode(event.node)
          await this.settle(trace)
        } else if (event.type === 'error') {
          notices.fail(new Error(event.message || 'The run failed.'))
          await this.reload(trace)
        }
      }
    } finally {
      if (trace) {
        const node = trace.node.id
        this.byNode = Object.fromEntries(Object.entries(this.byNode).filter(([n]) => n !== node))
        this.paint(trace)
      }
    }
  }

  /** What the stream does not tell (origin, kept attention), from the stored trace. */
  private async settle(trace: Trace): Promise<void> {
    const info = await api.trace(trace.node.id)
    if (info.ids.length !== trace.length) return this.reload(trace)
    trace.setInfo(info)
    const missing = info.columns.filter((name) => trace.column(name) === null)
    if (missing.length > 0) {
      trace.setColumns(missing, (await api.columns(trace.node.id, missing)).buffer)
    }
  }

  /** After a broken line: the trace as far as the store has it. */
  async refetch(node: string): Promise<void> {
    traces.drop(node)
    if (focus.node === node) await focus.show(node)
  }

  /** The store knows better than the page: take its word. */
  private async reload(trace: Trace): Promise<void> {
    if (sessions.open) await sessions.load(sessions.open.id)
    await this.refetch(trace.node.id)
  }

  private paint(trace: Trace): void {
    this.dirty.add(trace)
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0
      for (const t of this.dirty) focus.grew(t)
      this.dirty.clear()
    })
  }
}

export const runs = new Runs()
