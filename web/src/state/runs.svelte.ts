/** Runs of the open session: begins them, takes their events in, paints at most once a frame. */
import { api } from '../api/client'
import { ApiError, Unreachable } from '../api/errors'
import type { ForkRequest, JobInfo, StartEvent, StreamEvent, StreamMessage } from '../api/types'
import { Trace } from '../core/trace'
import { background } from './background.svelte'
import { feed } from './feed.svelte'
import { focus } from './focus.svelte'
import { models } from './models.svelte'
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
  /** Seconds that the server's disk has not answered for; null when it does. */
  disk: number | null
}

export type Prompt =
  | { kind: 'complete'; text: string; language: string }
  | { kind: 'infill'; text: string; suffix: string; language: string }
  | { kind: 'chat'; messages: { role: string; content: string }[] }
  | { kind: 'score'; text: string; language: string }

/** What takes the place of a token and of all after it. */
export type Replacement = { token_id: number } | { text: string }

/** What is known of a run whose events are read. */
interface Line {
  trace: Trace | null
  /** Events that wait for the parent's trace; null when nothing has to wait. */
  waiting: StreamEvent[] | null
  total: number
  /** When the first tokens came that were not sent again, and how many there were before. */
  began: { at: number; made: number } | null
}

/** To show when it comes: a run that this page began, with the token to select. */
type Wanted = { token: number | null }

const ARRIVAL_MS = 4000

/** The kinds of job that write a branch. */
const DECODE: ReadonlySet<string> = new Set<StreamMessage['kind']>(['generate', 'fork', 'score'])
const decodes = (m: { kind: string }): m is StreamMessage => DECODE.has(m.kind)

class Runs {
  byNode = $state.raw<Record<string, Run>>({})
  /** A request is on its way and has not answered yet. */
  asking = $state(false)
  current: Run | null = $derived((focus.node && this.byNode[focus.node]) || null)
  private lines = new Map<string, Line>()
  private wanted = new Map<string, Wanted>()
  private arrivals = new Map<string, ((trace: Trace) => void)[]>()
  /** Branches that the server writes now, by what it said last. */
  private writing = new Set<string>()
  /** Events of runs that began while a request was on its way. */
  private early: StreamMessage[] = []
  private dirty = new Set<Trace>()
  private frame = 0

  constructor() {
    feed.on(
      (message) => {
        if (decodes(message)) this.take(message)
      },
      (jobs) => this.greet(jobs),
    )
    traces.coming = (node) => this.arrival(node)
  }

  /** A new root in `session`, or in a session of its own. */
  async generate(prompt: Prompt, inOpenSession: boolean): Promise<void> {
    await this.guarded(async () => {
      const session = (inOpenSession && sessions.open) || (await sessions.create())
      await this.enter(session.id)
      const settings = decoding.request
      const job =
        prompt.kind === 'score'
          ? api.score(session.id, {
              text: prompt.text,
              language: prompt.language,
              alternatives: settings.alternatives,
              model: models.chosen,
            })
          : api.generate(session.id, {
              prompt: prompt.kind === 'chat' ? null : prompt.text,
              suffix: prompt.kind === 'infill' ? prompt.suffix : null,
              messages: prompt.kind === 'chat' ? prompt.messages : null,
              language: prompt.kind === 'chat' ? '' : prompt.language,
              model: models.chosen,
              settings,
            })
      this.begun(await job, { token: null })
    })
  }

  /** A branch from the shown trace that differs at token `at`. */
  async fork(at: number, by: Replacement): Promise<void> {
    const parent = focus.shown?.trace
    if (!parent) return
    const settings = decoding.request
    const body: ForkRequest = { at, token_id: null, token_ids: null, text: null, ...by, settings }
    await this.guarded(async () => this.begun(await api.fork(parent.node.id, body), { token: at }), () =>
      this.fork(at, by),
    )
  }

  /** Decode again from token `at` of a branch with these edits; shows it. Returns the new branch. */
  async tryOut(node: string, at: number, edits: ForkRequest['settings']['edits']): Promise<string | null> {
    const settings = { ...decoding.request, edits }
    const body: ForkRequest = { at, token_id: null, token_ids: null, text: '', settings }
    let made: string | null = null
    await this.guarded(async () => {
      const job = await api.fork(node, body)
      made = job.node
      this.begun(job, { token: null })
    })
    return made
  }

  /** A branch by tokens that are known already: nothing is decoded beyond them. Shows it. */
  async put(node: string, at: number, ids: number[]): Promise<string | null> {
    const settings = { ...decoding.request, max_new_tokens: 0, edits: [] }
    const body: ForkRequest = { at, token_id: null, token_ids: ids, text: null, settings }
    let made: string | null = null
    await this.guarded(async () => {
      const job = await api.fork(node, body)
      made = job.node
      this.begun(job, { token: null })
    })
    return made
  }

  /** Take up a run that was interrupted. */
  async goOn(node: string): Promise<void> {
    await this.guarded(async () => this.begun(await api.goOn(node), { token: null }))
  }

  async stop(run = this.current): Promise<void> {
    if (!run) return
    try {
      await api.cancel(run.id)
    } catch (cause) {
      notices.fail(cause, 'Could not stop.')
    }
  }

  /** Read the runs of this session; those of the one before go on in the background. */
  async enter(session: string | null): Promise<void> {
    if (session !== feed.session) {
      this.byNode = {}
      this.lines.clear()
      this.writing.clear()
      void background.look()
    }
    await feed.watch(session)
  }

  /** `again`: what to do once a model that was lacking is loaded. */
  private async guarded(work: () => Promise<void>, again?: () => Promise<void>): Promise<void> {
    if (sessions.open && !sessions.writable()) return
    this.asking = true
    try {
      await work()
    } catch (cause) {
      const lacking = cause instanceof ApiError && cause.body.code === 'model_not_loaded'
      if (lacking && again) this.offer(cause, again)
      else if (!(cause instanceof Unreachable)) notices.fail(cause)
    } finally {
      this.asking = false
      const early = this.early
      this.early = []
      for (const message of early) this.take(message)
      void sessions.refresh().catch(() => undefined)
    }
  }

  /** A branch goes on with the model that made it: offer to load that one. */
  private offer(cause: Error, again: () => Promise<void>): void {
    const made = focus.shown?.trace.node
    const known = models.list.find((m) => m.digest === made?.model_digest || m.name === made?.model)
    if (!known) notices.fail(cause)
    else {
      notices.say(cause.message, {
        label: `Load ${known.name}`,
        run: () => void models.choose(known.id).then(again),
      })
    }
  }

  /** The server has answered: its first event may have been here before, or is still to come. */
  private begun(job: JobInfo, wanted: Wanted): void {
    const trace = this.lines.get(job.run)?.trace ?? (job.node && traces.get(job.node))
    if (trace) this.show(trace, wanted)
    const short = wanted.token !== null && trace && trace.length <= wanted.token
    if (!trace || short) this.wanted.set(job.run, wanted)
  }

  private show(trace: Trace, { token }: Wanted): void {
    focus.aside = null
    focus.present(trace, token !== null && trace.length > token ? token : null)
  }

  /** The jobs of this session as the server has them, each time that the line stands. */
  private greet(jobs: JobInfo[]): void {
    const writing = jobs.filter((j) => j.running && j.node !== null && DECODE.has(j.kind))
    this.writing = new Set(writing.map((j) => j.node!))
    const running = new Set(writing.map((j) => j.run))
    const over = Object.values(this.byNode).filter((r) => !running.has(r.id) && !jobs.some((j) => j.run === r.id))
    for (const run of over) void this.lost(run)
    // a branch that was listed as running, and is over by now
    const stale = sessions.nodes.some((n) => n.status === 'running' && !this.writing.has(n.id))
    if (stale && sessions.open) void sessions.load(sessions.open.id).catch(() => undefined)
  }

  /** The server knows nothing of this run any more (it was started anew): the store has what was kept. */
  private async lost(run: Run): Promise<void> {
    this.end(run.id, run.node)
    if (sessions.open) await sessions.load(sessions.open.id)
    await this.refetch(run.node)
  }

  /** The trace of a branch that is being written, when its first event has come. */
  private arrival(node: string): Promise<Trace | null> {
    if (!this.writing.has(node)) return Promise.resolve(null)
    return new Promise((resolve) => {
      this.arrivals.set(node, [...(this.arrivals.get(node) ?? []), resolve])
      setTimeout(() => resolve(null), ARRIVAL_MS)
    })
  }

  private take(message: StreamMessage): void {
    const { run, event } = message
    let line = this.lines.get(run)
    if (!line && this.asking) {
      this.early.push(message) // it may be the one asked for: the answer says so
      return
    }
    if (!line) {
      if (event.type !== 'start') return
      line = { trace: null, waiting: null, total: 0, began: null }
      this.lines.set(run, line)
    }
    if (line.waiting) line.waiting.push(event)
    else this.handle(run, line, event)
  }

  private handle(run: string, line: Line, event: StreamEvent): void {
    const trace = line.trace
    if (event.type === 'start') void this.start(run, line, event)
    else if (!trace) return
    else if (event.type === 'waiting') this.change(trace, { disk: event.seconds })
    else if (event.type === 'progress') {
      this.change(trace, { prefill: { done: event.done, total: event.total }, disk: null })
    } else if (event.type === 'step') {
      trace.append(event)
      if (!event.prompt) this.count(line, trace, event.start + event.ids.length)
      else if (this.byNode[trace.node.id]?.disk) this.change(trace, { disk: null })
      this.paint(trace)
      const token = this.wanted.get(run)?.token ?? null
      if (token !== null && trace.length > token) {
        this.wanted.delete(run)
        if (focus.node === trace.node.id && focus.token === null) focus.select(token)
      }
    } else if (event.type === 'end') {
      trace.node = event.node
      sessions.putNode(event.node)
      focus.grew(trace) // not at the next frame: the last tokens stand there when it is said to have ended
      this.end(run, trace.node.id)
      void this.settle(trace).catch((cause: unknown) => notices.fail(cause))
    } else if (event.type === 'error') {
      notices.fail(new Error(event.message || 'The run failed.'))
      this.end(run, trace.node.id)
      void this.reload(trace).catch(() => undefined)
    }
  }

  private async start(run: string, line: Line, { node, shared, total }: StartEvent): Promise<void> {
    line.total = total ?? 0
    this.writing.add(node.id)
    sessions.putNode(node)
    line.trace = traces.get(node.id)
    if (!line.trace) {
      line.waiting = []
      try {
        line.trace = await this.opened(node, shared)
      } catch (cause) {
        this.lines.delete(run)
        notices.fail(cause)
        return
      }
      if (this.lines.get(run) !== line) return // another session was opened meanwhile
    }
    const trace = line.trace
    traces.put(trace)
    const fresh = { id: run, node: node.id, prefill: null, made: 0, limit: 0, tokensPerS: null, disk: null }
    this.byNode = { ...this.byNode, [node.id]: fresh }
    this.asking = false
    const wanted = this.wanted.get(run)
    if (wanted) {
      this.show(trace, { token: null })
      if (wanted.token === null) this.wanted.delete(run)
    }
    for (const resolve of this.arrivals.get(node.id) ?? []) resolve(trace)
    this.arrivals.delete(node.id)
    const waiting = line.waiting ?? []
    line.waiting = null
    for (const event of waiting) this.handle(run, line, event)
  }

  /** A trace with the tokens that come from the parent, which may have to be fetched. */
  private opened(node: StartEvent['node'], shared: number): Trace | Promise<Trace> {
    if (shared === 0 || node.parent === null) return new Trace(node)
    const parent = traces.get(node.parent)
    const whole = (p: Trace): boolean => p.length >= shared && (p.k === 0 || p.hasAlternatives)
    if (parent && whole(parent)) return Trace.branchOf(parent, node, shared)
    return traces.fetch(node.parent).then(async (fetched) => {
      await traces.alternatives(fetched)
      return Trace.branchOf(fetched, node, shared)
    })
  }

  private change(trace: Trace, part: Partial<Run>): void {
    const run = this.byNode[trace.node.id]
    if (run) this.byNode = { ...this.byNode, [run.node]: { ...run, ...part } }
  }

  private count(line: Line, trace: Trace, length: number): void {
    const limit = line.total - trace.nPrompt
    const made = length - trace.nPrompt
    line.began ??= { at: performance.now(), made }
    const seconds = (performance.now() - line.began.at) / 1000
    const tokensPerS = seconds > 0.05 ? (made - line.began.made) / seconds : null
    this.change(trace, { prefill: null, made, limit, tokensPerS, disk: null })
  }

  private end(run: string, node: string): void {
    this.lines.delete(run)
    this.wanted.delete(run)
    this.writing.delete(node)
    this.byNode = Object.fromEntries(Object.entries(this.byNode).filter(([n]) => n !== node))
    void sessions.refresh().catch(() => undefined)
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
    traces.put(trace)
    this.paint(trace)
  }

  /** After a broken line: the trace as far as the store has it. */
  async refetch(node: string): Promise<void> {
    traces.drop(node)
    if (focus.node !== node) return
    const { aside } = focus
    const shown = focus.show(node)
    focus.aside = aside // nobody asked to leave it
    await shown
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
