/** The measurement of forking tokens that is shown, and the job that makes it. */
import { api } from '../../api/client'
import {
  forkingApi,
  type ForkingAsk,
  type ForkingDone,
  type ForkingEvent,
  type ForkingStart,
  type ForkPlace,
} from '../../api/forking'
import { Asked } from '../../state/asked.svelte'
import { focus } from '../../state/focus.svelte'
import { keep, recall } from '../../state/keep'
import { notices } from '../../state/notices.svelte'

export interface ForkingQuestion extends Partial<ForkingAsk> {
  node: string
}

const PLAN = { gate: 'entropy' as ForkingAsk['gate'], threshold: 0.5, width: 4, outcome: 'syntax', pattern: '', check: 8 }
const COLUMNS = ['fork_tv', 'fork_gate', 'semantic', 'cosmetic'] as const

class Forking extends Asked<ForkingEvent, ForkingQuestion> {
  plan = $state({ ...PLAN, ...recall<Partial<typeof PLAN>>('forking', {}) })
  begun = $state.raw<ForkingStart | null>(null)
  places = $state.raw<ReadonlyMap<number, ForkPlace>>(new Map())
  made = $state.raw<ForkingDone | null>(null)
  /** Tokens of which one is measured alone right now. */
  alone = $state<number | null>(null)

  here: boolean = $derived(this.question !== null && focus.node === this.question.node)

  constructor() {
    super('forking')
  }

  set<K extends keyof typeof PLAN>(name: K, value: (typeof PLAN)[K]): void {
    this.plan = { ...this.plan, [name]: value }
    keep('forking', this.plan)
  }

  get outcome(): string {
    const { outcome, pattern } = this.plan
    return outcome === 'regex' || outcome === 'query' ? `${outcome}:${pattern}` : outcome
  }

  async ask(node: string): Promise<void> {
    const { gate, threshold, width, check } = this.plan
    const body: Partial<ForkingAsk> = { gate, threshold, width, check, outcome: this.outcome }
    await this.begin({ node, ...body }, () => forkingApi.begin(node, body))
  }

  /** Measure one token, whatever the gate says. */
  async measure(node: string, t: number): Promise<void> {
    if (this.alone !== null) return
    this.alone = t
    try {
      const place = await forkingApi.place(node, t, this.plan.width, this.outcome)
      if (this.question?.node !== node) {
        if (this.running) return
        this.clear()
        this.question = { node }
      }
      this.places = new Map([...this.places, [t, place]])
    } catch (cause) {
      notices.fail(cause)
    } finally {
      this.alone = null
    }
  }

  protected override clear(): void {
    this.begun = null
    this.places = new Map()
    this.made = null
  }

  protected override take(event: ForkingEvent): void {
    if (event.type === 'start') this.begun = event
    else if (event.type === 'place') this.places = new Map([...this.places, [event.place.at, event.place]])
    else if (event.type === 'columns') this.made = event
  }

  /** Give the branch its columns, so that it can be coloured by them. Call inside an effect. */
  wear(): void {
    const trace = focus.shown?.trace
    const { made, begun } = this
    if (!trace || !made || !begun || this.question?.node !== trace.node.id) return
    if (trace.worn === made) return
    for (const name of COLUMNS) trace.wear(name, begun.at, made[name])
    trace.worn = made
    focus.grew(trace)
  }

  /** Stop the job; what it has found stays. */
  halt(): void {
    if (this.begun) void api.cancel(this.begun.run).catch((e: unknown) => notices.fail(e))
    else this.stop()
  }
}

export const forks = new Forking()
