/** The explanation that is shown, and the job that makes it. */
import {
  explainApi,
  type Attribution,
  type Definition,
  type ExplainEvent,
  type ExplainInfo,
  type TableEvent,
} from '../../api/explain'
import { Asked } from '../../state/asked.svelte'

export const TABLES = ['regions', 'lens', 'components', 'ablation', 'edges', 'faithfulness']

/** Names of the stages as a reader knows them. */
export const STAGES: Record<string, string> = {
  gradient: 'gradients',
  occlusion: 'taking spans out',
  ablation: 'taking heads and MLPs out',
  'attention edges': 'cutting what the last token looked at',
  faithfulness: 'deleting and inserting tokens',
}

export interface Question {
  node: string
  at: number
  /** null: the token's own probability, not A rather than B. */
  contrast: number | null
  method: string
}

class Why extends Asked<ExplainEvent, Question> {
  info = $state.raw<ExplainInfo | null>(null)
  method = $state('occlusion')
  /** Explain the token's own probability, not A rather than B. */
  alone = $state(false)
  made = $state.raw<Attribution | null>(null)
  tables = $state.raw<Record<string, TableEvent>>({})
  private loading: Promise<void> | null = null

  definitions: Map<string, Definition> = $derived(
    new Map((this.info?.definitions ?? []).map((d) => [d.name, d])),
  )

  constructor() {
    super('explain')
  }

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

  /** Ask; nothing is asked twice. */
  async ask(question: Question): Promise<void> {
    const same = this.question && JSON.stringify(this.question) === JSON.stringify(question)
    if (same && (this.running || this.made)) return
    const { node, at, contrast, method } = question
    await this.begin(question, () =>
      explainApi.explain(node, { at, contrast, method, tables: TABLES }),
    )
  }

  protected override clear(): void {
    this.made = null
    this.tables = {}
    if (this.question) this.method = this.question.method
  }

  protected override take(event: ExplainEvent): void {
    if (event.type === 'attribution') this.made = event
    else if (event.type === 'table') this.tables = { ...this.tables, [event.name]: event }
  }
}

export const why = new Why()
