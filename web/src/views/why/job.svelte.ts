/** The explanation that is shown, and the job that makes it: one at a time, the last one asked for. */
import { api } from '../../api/client'
import {
  explainApi,
  type Attribution,
  type Definition,
  type ExplainEvent,
  type ExplainInfo,
  type TableEvent,
} from '../../api/explain'
import type { ExplainMessage } from '../../api/types'
import { feed } from '../../state/feed.svelte'

export const TABLES = ['regions', 'lens', 'components', 'ablation', 'edges', 'faithfulness']

/** Names of the stages as a reader knows them. */
const STAGES: Record<string, string> = {
  gradient: 'gradients',
  occlusion: 'taking spans out',
  ablation: 'taking heads and MLPs out',
  'attention edges': 'cutting what the last token looked at',
  faithfulness: 'deleting and inserting tokens',
}

class Why {
  info = $state.raw<ExplainInfo | null>(null)
  method = $state('occlusion')
  /** Explain the token's own probability, not A rather than B. */
  alone = $state(false)
  made = $state.raw<Attribution | null>(null)
  tables = $state.raw<Record<string, TableEvent>>({})
  progress = $state.raw<{ done: number; total: number; what: string } | null>(null)
  running = $state(false)
  failure = $state<string | null>(null)
  /** What `made` explains: node, token, contrast, method. */
  key = $state('')
  private run: string | null = null
  private asking = 0
  /** Events of jobs that the server has begun before it has answered. */
  private early: ExplainMessage[] = []
  private loading: Promise<void> | null = null

  definitions: Map<string, Definition> = $derived(
    new Map((this.info?.definitions ?? []).map((d) => [d.name, d])),
  )

  /** What can be asked, once. */
  load(): Promise<void> {
    this.loading ??= explainApi.info().then(
      (info) => void (this.info = info),
      (cause: unknown) => {
        this.loading = null
        this.failure = cause instanceof Error ? cause.message : String(cause)
      },
    )
    return this.loading
  }

  constructor() {
    feed.on((message) => {
      if (message.kind !== 'explain') return
      if (message.run === this.run) this.take(message.event)
      else if (this.asking) this.early.push(message)
    })
  }

  /** Ask; what was asked before is given up. */
  async ask(node: string, at: number, contrast: number | null): Promise<void> {
    const key = `${node} ${at} ${contrast} ${this.method}`
    if (key === this.key && (this.running || this.made)) return
    this.stop()
    const asked = ++this.asking
    Object.assign(this, { key, made: null, tables: {}, failure: null, running: true, progress: null })
    try {
      const { run } = await explainApi.explain(node, { at, contrast, method: this.method, tables: TABLES })
      if (asked !== this.asking) {
        void api.cancel(run).catch(() => undefined) // something else was asked meanwhile
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

  private take(event: ExplainEvent): void {
    if (event.type === 'attribution') this.made = event
    else if (event.type === 'table') this.tables = { ...this.tables, [event.name]: event }
    else if (event.type === 'progress')
      this.progress = { ...event, what: STAGES[event.what] ?? event.what }
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

export const why = new Why()
