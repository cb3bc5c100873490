/** The exploration that is shown, and the job that makes it. */
import { api } from '../../api/client'
import {
  exploreApi,
  type ExploreAsk,
  type ExploreBranch,
  type ExploreDecision,
  type ExploreDecisions,
  type ExploreEvent,
  type ExploreStart,
  type ExploreState,
} from '../../api/explore'
import { forking, type Plan } from '../../core/explored'
import { shown } from '../../core/visible'
import { Asked } from '../../state/asked.svelte'
import { focus } from '../../state/focus.svelte'
import { keep, recall } from '../../state/keep'
import { notices } from '../../state/notices.svelte'
import { runs } from '../../state/runs.svelte'
import { tree } from '../../state/outline.svelte'
import { sessions } from '../../state/sessions.svelte'

export interface ExploreQuestion extends Partial<ExploreAsk> {
  node: string
}

const PLAN: Plan & { outcome: string; pattern: string } = {
  way: 'enumerated', width: 4, depth: 2, horizon: 12, draws: 100, outcome: 'syntax', pattern: '',
} // prettier-ignore

class Exploring extends Asked<ExploreEvent, ExploreQuestion> {
  plan = $state({ ...PLAN, ...recall<Partial<typeof PLAN>>('explore', {}) })
  begun = $state.raw<ExploreStart | null>(null)
  branches = $state.raw<ExploreBranch[]>([])
  state = $state.raw<ExploreState | null>(null)
  decisions = $state.raw<ExploreDecision[]>([])
  private columns: ExploreDecisions | null = null
  split = $state.raw<{ semantic: number; cosmetic: number } | null>(null)
  /** Branches of the session that were opened from it, by their name in the exploration. */
  private opened = $state.raw<ReadonlyMap<number, string>>(new Map())

  forks: Map<number, number> = $derived(forking(this.decisions))

  constructor() {
    super('explore')
  }

  /** Whether what is shown grew from the branch that was explored, or is it. */
  here: boolean = $derived.by(() => {
    const asked = this.question?.node
    for (let n = focus.node; asked && n; n = sessions.node(n)?.parent ?? null) if (n === asked) return true
    return false
  })

  set<K extends keyof typeof PLAN>(name: K, value: (typeof PLAN)[K]): void {
    this.plan = { ...this.plan, [name]: value }
    keep('explore', this.plan)
  }

  /** Begin at token `at` of a branch. */
  async ask(node: string, at: number): Promise<void> {
    const { way, width, depth, horizon, draws, outcome, pattern } = this.plan
    const key = outcome === 'regex' || outcome === 'query' ? `${outcome}:${pattern}` : outcome
    const body: Partial<ExploreAsk> = { at, way, width, depth, horizon, draws, outcome: key }
    await this.begin({ node, ...body }, () => exploreApi.explore(node, body))
  }

  protected override clear(): void {
    this.begun = null
    this.branches = []
    this.state = null
    this.decisions = []
    this.columns = null
    this.split = null
    this.opened = new Map()
  }

  protected override take(event: ExploreEvent): void {
    if (event.type === 'start') this.begun = event
    else if (event.type === 'branch') this.branches = [...this.branches, event]
    else if (event.type === 'state') this.state = event
    else if (event.type === 'decisions') {
      this.columns = event
      this.decisions = event.decisions
      this.split = event.decisions.length > 0 ? { semantic: event.semantic, cosmetic: event.cosmetic } : null
    }
  }

  /** Put a branch of the exploration into the session and show it. */
  async open(name: number): Promise<void> {
    const branch = this.branches.find((b) => b.name === name)
    const node = this.question?.node
    if (!branch || !node || !this.begun) return
    const known = this.opened.get(name)
    if (known && sessions.node(known)) return focus.show(known, null)
    try {
      const made = await runs.put(node, this.begun.at, branch.ids)
      if (made) this.opened = new Map([...this.opened, [name, made]])
    } catch (cause) {
      notices.fail(cause)
    }
  }

  /** Give the branch its semantic and cosmetic columns. Call inside an effect. */
  wear(): void {
    const trace = focus.shown?.trace
    const columns = this.decisions.length > 0 ? this.columns : null
    if (!trace || !columns || !this.begun || this.question?.node !== trace.node.id) return
    if (trace.worn !== null && trace.worn !== columns) return // those of the forking tokens stay
    if (trace.worn === columns) return
    trace.wear('semantic', this.begun.at, columns.semantic_column)
    trace.wear('cosmetic', this.begun.at, columns.cosmetic_column)
    trace.worn = columns
    focus.grew(trace)
  }

  /** Tell the tree which outcome each branch of the session is. Call inside an effect. */
  colour(): void {
    const { state } = this
    const of = new Map<string, string>()
    const order: string[] = []
    state?.outcomes.forEach((o) => {
      const label = shown(o.label.trim(), 24) || '∅'
      const name = order.includes(label) ? `${label} (${order.length + 1})` : label
      order.push(name)
      for (const b of o.branches) {
        const node = b === 0 ? this.question?.node : this.opened.get(b)
        if (node) of.set(node, name)
      }
    })
    tree.outcomes = { of, order }
  }

  /** Stop the job; what it has found stays. */
  halt(): void {
    if (this.begun) void api.cancel(this.begun.run).catch((e: unknown) => notices.fail(e))
    else this.stop()
  }
}

export const exploring = new Exploring()
