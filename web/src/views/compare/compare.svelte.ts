/** Which other model reads the text, how far that is, and what came of it. */
import { api } from '../../api/client'
import { driftApi, type Drift } from '../../api/drift'
import type { ModelState } from '../../api/types'
import { beside } from '../../core/drift'
import { reach } from '../../core/diverging'
import { niceAbove } from '../../core/scale'
import type { Trace } from '../../core/trace'
import { focus } from '../../state/focus.svelte'
import { keep, recall } from '../../state/keep'
import { models } from '../../state/models.svelte'
import { sessions } from '../../state/sessions.svelte'
import { traces } from '../../state/traces.svelte'

export type Shows = 'difference' | 'a' | 'b' | 'apart'

/** What a comparison is asked for, where both sides have it. */
const COLUMNS = ['surprisal', 'entropy', 'probability', 'rank', 'margin', 'p_ratio', 'varentropy']

class Comparing {
  /** Id of the model that reads the text, too. */
  model = $state<string | null>(null)
  shows = $state<Shows>('difference')
  column = $state(recall('compare-column', 'surprisal'))
  /** Both read it again, and whole distributions are held beside each other. */
  exact = $state(false)
  /** What is being done; '' for nothing. */
  doing = $state('')
  failure = $state('')
  drift = $state.raw<Drift | null>(null)
  other = $state.raw<Trace | null>(null)
  /** The branch that `drift` is about. */
  private of = $state('')
  private asked = 0
  private drawing: AbortController | null = null

  here: boolean = $derived(this.drift !== null && this.other !== null && this.of === focus.node)

  /** The models that could read it: all but the one that wrote it. */
  get choices(): ModelState[] {
    const origin = focus.shown?.trace.origin
    const made = models.list.filter((m) => m.digest !== null && m.digest === origin?.model_digest)
    const own = made.find((m) => m.dtype === origin?.dtype) ?? (made.length === 1 ? made[0] : undefined)
    // one that stands there already, offered under another address and never loaded from there
    const named = new Set([origin?.model, ...models.list.filter((m) => m.digest !== null).map((m) => m.name)])
    const twin = (m: ModelState): boolean => m.digest === null && m.dtype === null && named.has(m.name)
    return models.list.filter((m) => m.id !== own?.id && !twin(m))
  }

  columns: string[] = $derived.by(() => {
    const [a, b] = [focus.shown?.trace, this.other]
    if (!a || !b) return []
    const both = (n: string): boolean => a.columnNames.includes(n) && b.columnNames.includes(n)
    return COLUMNS.filter(both)
  })
  /** The column that is shown: the chosen one, where both have it. */
  shown: string = $derived(this.columns.includes(this.column) ? this.column : (this.columns[0] ?? 'surprisal'))

  /** Per token of the branch that is shown: second less first. */
  difference: (number | null)[] = $derived.by(() => {
    const at = this.drift?.columns.indexOf(this.shown) ?? -1
    return at < 0 ? [] : this.drift!.differences[at]
  })
  /** End of the scale of differences: round, and held by 98 of 100 tokens. */
  most: number = $derived.by(() => {
    const known = this.difference.filter((v): v is number => v !== null).map(Math.abs).sort((x, y) => x - y)
    return niceAbove(known[Math.floor(0.98 * (known.length - 1))] ?? reach(known))
  })
  /** Per token: the second model's numbers of the column. */
  second: Float32Array = $derived.by(() => {
    const a = focus.shown?.trace
    if (!a || !this.drift || !this.other || !this.here) return new Float32Array(0)
    return beside(a, this.other, this.shown, this.drift.cells)
  })

  /** Have this model read the branch that is shown, which it may have done before. */
  async read(model: string): Promise<void> {
    const trace = focus.shown?.trace
    if (!trace || !sessions.writable()) return
    const ask = ++this.asked
    const node = trace.node.id
    Object.assign(this, { model, failure: '', drift: null, other: null, of: node })
    const stale = (): boolean => ask !== this.asked
    try {
      this.doing = 'Loading the model …'
      await models.ready(model)
      if (stale()) return
      this.doing = 'Reading the text …'
      const { node: made, run } = await driftApi.read(node, model)
      if (run !== null) await api.ended(run)
      if (stale()) return
      const other = await traces.fetch(made)
      await traces.alternatives(other)
      if (stale()) return
      this.other = other
      await this.hold(ask)
    } catch (cause) {
      if (!stale()) this.fail(cause)
    }
  }

  /** Hold both readings beside each other, by what they keep or exactly. */
  async again(): Promise<void> {
    if (!this.other) return
    const ask = ++this.asked
    this.failure = ''
    try {
      await this.hold(ask)
    } catch (cause) {
      if (ask !== this.asked) return
      this.exact = false // what stands there is what was known before
      this.fail(cause)
    }
  }

  private async hold(ask: number): Promise<void> {
    this.doing = this.exact ? 'Both read it again …' : 'Comparing …'
    this.drawing?.abort()
    this.drawing = new AbortController()
    const found = await driftApi.of(this.of, this.other!.node.id, this.columns, this.exact, this.drawing.signal)
    if (ask !== this.asked) return
    this.drift = found
    this.doing = ''
  }

  private fail(cause: unknown): void {
    this.failure = cause instanceof Error ? cause.message : String(cause)
    this.doing = ''
  }

  /** This branch is shown: what was said of another is not said of it. */
  follow(node: string): void {
    if (this.of === node) return
    this.asked++
    this.drawing?.abort()
    Object.assign(this, { doing: '', failure: '', drift: null, other: null, of: '' })
  }

  remember(): void {
    keep('compare-column', this.column)
  }
}

export const comparing = new Comparing()
