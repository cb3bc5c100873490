/** The patch map that is shown, and the job that makes it. */
import { api } from '../../api/client'
import { explainApi, type PatchAsk, type PatchEvent, type PatchMap } from '../../api/explain'
import type { PatchMessage } from '../../api/types'
import { feed } from '../../state/feed.svelte'

class Patch {
  made = $state.raw<PatchMap | null>(null)
  /** What `made` belongs to: node and token. */
  key = $state('')
  cost = $state('')
  progress = $state.raw<{ done: number; total: number } | null>(null)
  running = $state(false)
  failure = $state<string | null>(null)
  private run: string | null = null
  private asking = 0
  /** Events of jobs that the server has begun before it has answered. */
  private early: PatchMessage[] = []

  constructor() {
    feed.on((message) => {
      if (message.kind !== 'patch') return
      if (message.run === this.run) this.take(message.event)
      else if (this.asking) this.early.push(message)
    })
  }

  /** Ask; what was asked before is given up. */
  async ask(node: string, body: PatchAsk): Promise<void> {
    this.stop()
    const asked = ++this.asking
    Object.assign(this, { key: `${node} ${body.at}`, made: null, failure: null, cost: '', progress: null, running: true })
    try {
      const { run } = await explainApi.patch(node, body)
      if (asked !== this.asking) {
        void api.cancel(run).catch(() => undefined)
        return
      }
      this.run = run
      for (const message of this.early) if (message.run === run) this.take(message.event)
      this.early = []
    } catch (cause) {
      if (asked !== this.asking) return
      this.failure = cause instanceof Error ? cause.message : String(cause)
      this.over()
    }
  }

  private take(event: PatchEvent): void {
    if (event.type === 'start') this.cost = event.cost
    else if (event.type === 'progress') this.progress = { done: event.done, total: event.total ?? 0 }
    else if (event.type === 'patch') this.made = event
    else if (event.type === 'error') {
      this.failure = event.message
      this.over()
    } else if (event.type === 'done') this.over()
  }

  private over(): void {
    this.run = null
    this.running = false
    this.progress = null
  }

  /** The server stops before its next piece of work. */
  stop(): void {
    if (this.run) void api.cancel(this.run).catch(() => undefined)
    this.asking++
    this.early = []
    this.over()
  }
}

export const patch = new Patch()
