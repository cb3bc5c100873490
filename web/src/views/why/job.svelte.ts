/** The explanation that is shown, and the job that makes it: one at a time, the last one asked for. */
import { explainApi, type Attribution, type Definition, type ExplainInfo, type TableEvent } from '../../api/explain'
import { ApiError } from '../../api/errors'

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
  private stopper: AbortController | null = null
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

  /** Ask; what was asked before is given up. */
  async ask(node: string, at: number, contrast: number | null): Promise<void> {
    const key = `${node} ${at} ${contrast} ${this.method}`
    if (key === this.key && (this.running || this.made)) return
    this.stop()
    const stopper = new AbortController()
    this.stopper = stopper
    Object.assign(this, { key, made: null, tables: {}, failure: null, running: true, progress: null })
    try {
      const body = { at, contrast, method: this.method, tables: TABLES }
      for await (const event of explainApi.explain(node, body, stopper.signal)) {
        if (stopper.signal.aborted) return
        if (event.type === 'attribution') this.made = event
        else if (event.type === 'table') this.tables = { ...this.tables, [event.name]: event }
        else if (event.type === 'progress')
          this.progress = { ...event, what: STAGES[event.what] ?? event.what }
        else if (event.type === 'error') this.failure = event.message
      }
    } catch (cause) {
      if (stopper.signal.aborted) return
      this.failure =
        cause instanceof ApiError || cause instanceof Error ? cause.message : String(cause)
    } finally {
      if (this.stopper === stopper) {
        this.running = false
        this.progress = null
      }
    }
  }

  /** Leaving the stream tells the server to stop before its next piece of work. */
  stop(): void {
    this.stopper?.abort()
    this.stopper = null
    this.running = false
    this.progress = null
  }
}

export const why = new Why()
