/**
 * A question to the server that is worked through as a job: one at a time, the last one asked.
 *
 * The answer comes over the feed, maybe before the request has been answered. What this tab has
 * asked is kept with it, so that after a reload the job is taken up again where it stands.
 */
import { api } from '../api/client'
import type { ErrorEvent, FeedEvent, HelloEvent, JobInfo, ProgressEvent } from '../api/types'
import { feed } from './feed.svelte'
import { keepHere, recallHere } from './keep'

type Message = Exclude<FeedEvent, HelloEvent>
/** What every such job tells, whatever it works at. */
type Plain = ProgressEvent | ErrorEvent | { type: 'done' }

export interface Progress {
  done: number
  total: number
  what: string
}

/** `E`: the events of this kind of job; `Q`: what was asked, as plain JSON. */
export abstract class Asked<E extends { type: string }, Q extends { node: string }> {
  /** What runs, or was answered last. */
  question = $state.raw<Q | null>(null)
  running = $state(false)
  progress = $state.raw<Progress | null>(null)
  failure = $state<string | null>(null)
  private run: string | null = null
  private asking = 0
  /** Events of jobs that the server has begun before it has answered. */
  private early: Message[] = []

  constructor(private readonly kind: Message['kind']) {
    feed.on(
      (message) => {
        if (message.kind !== kind) return
        if (message.run === this.run) this.handle(message.event as unknown as E)
        else if (this.asking > 0) this.early.push(message)
      },
      (jobs) => this.greet(jobs),
    )
  }

  /** What this kind of job tells beyond progress and its end. */
  protected abstract take(event: E): void

  /** Forget the last answer; `question` is the new one already. */
  protected abstract clear(): void

  /** Ask; what was asked before is given up. */
  protected async begin(question: Q, send: () => Promise<JobInfo>): Promise<void> {
    this.stop()
    const asked = ++this.asking
    this.fresh(question)
    this.remember(null)
    try {
      const { run } = await send()
      if (asked !== this.asking) {
        void api.cancel(run).catch(() => undefined) // something else was asked meanwhile
        return
      }
      this.run = run
      this.remember(run)
      const early = this.early
      this.early = []
      for (const message of early) if (message.run === run) this.handle(message.event as unknown as E)
    } catch (cause) {
      if (asked !== this.asking) return
      this.failure = cause instanceof Error ? cause.message : String(cause)
      this.over()
    }
  }

  private fresh(question: Q): void {
    Object.assign(this, { question, failure: null, running: true, progress: null })
    this.clear()
  }

  /** The line stands: take up what this tab had asked, and let go of what the server lost. */
  private greet(jobs: JobInfo[]): void {
    if (this.running) {
      if (this.run && !jobs.some((j) => j.run === this.run)) {
        this.failure = 'The server was started anew and knows nothing of this any more.'
        this.over()
      }
      return
    }
    const kept = recallHere<{ run: string | null; question: Q } | null>(`job.${this.kind}`, null)
    if (!kept) return
    const alive = jobs.filter((j) => j.running && j.kind === this.kind)
    // left before the answer came: it is the one on the same branch
    const mine = alive.find((j) => (kept.run ? j.run === kept.run : j.node === kept.question.node))
    if (!mine) return
    this.fresh(kept.question)
    this.run = mine.run
    this.remember(mine.run)
  }

  private remember(run: string | null): void {
    keepHere(`job.${this.kind}`, { run, question: this.question })
  }

  private handle(event: E): void {
    const plain = event as unknown as Plain
    if (plain.type === 'progress') {
      this.progress = { done: plain.done, total: plain.total, what: plain.what }
    } else if (plain.type === 'error') {
      this.failure = plain.message
      this.over()
    } else {
      this.take(event)
      if (plain.type === 'done') this.over()
    }
  }

  private over(): void {
    this.run = null
    this.running = false
    this.progress = null
    keepHere(`job.${this.kind}`, null)
  }

  /** The server stops before its next piece of work. */
  stop(): void {
    if (this.run) void api.cancel(this.run).catch(() => undefined)
    this.asking++
    this.early = []
    this.over()
  }
}
