/** What the structure view shows: the tree of the branch, the level and aggregate, what is pointed at. */
import { structureApi, type StructureInfo } from '../../api/structure'
import { byKind, byLeaf, over, type Aggregate, type KindRow } from '../../core/rollup'
import { niceAbove, quantile, type Range } from '../../core/scale'
import { Syntax, lastNotAbove, type Unit } from '../../core/syntax'
import type { Trace } from '../../core/trace'
import { focus } from '../../state/focus.svelte'
import { keep, recall } from '../../state/keep'
import { look } from '../../state/look.svelte'

/** A running branch is looked at again after this long, or 50 times what the last look cost. */
const LEAST_WAIT_MS = 250
const SHARE = 50

class StructureView {
  info = $state.raw<StructureInfo | null>(null)
  syntax = $state.raw<Syntax | null>(null)
  failure = $state<string | null>(null)
  level = $state(recall('structure-level', 'statement'))
  how = $state<Aggregate>(recall<Aggregate>('structure-how', 'mean'))
  unit = $state<Unit>(recall<Unit>('structure-unit', 'tokens'))
  /** "" lets the server find out. */
  language = $state('')
  /** Root of the icicle. */
  zoom = $state(0)
  /** Region under the pointer in the icicle, the table or the matrix. */
  hovered = $state<number | null>(null)
  /** Region chosen by click or keys. */
  chosen = $state<number | null>(null)
  /** Only regions of this kind are coloured. */
  kind = $state<string | null>(null)
  private node = ''
  private asked = ''
  private ready = 0
  private busy = $state(false)

  private bits: Record<string, number> = $derived(this.info?.level_bits ?? {})
  /** Level bits of everything that an icicle or a breadcrumb names. */
  all: number = $derived(Object.values(this.bits).reduce((a, b) => a | b, 0))
  bit: number = $derived(this.bits[this.level] ?? 0)

  /** What is pointed at: in a picture, else in the code. */
  pointed: number | null = $derived.by(() => {
    if (this.hovered !== null) return this.hovered
    const t = focus.hovered ?? (this.chosen === null ? focus.token : null)
    if (t === null || !this.syntax) return this.chosen
    const region = this.syntax.regionOfToken(t)
    return region < 0 ? this.chosen : region
  })

  /** Load what can be asked, and keep the tree in step with the branch. Call inside an effect. */
  follow(): (() => void) | undefined {
    const shown = focus.shown
    const language = this.language
    if (!this.info) {
      void structureApi.info().then((info) => (this.info = info), this.fail)
      return
    }
    if (!shown || this.busy) return
    const { id } = shown.trace.node
    const same = this.node === id && this.asked === language
    if (same && this.syntax && this.syntax.covered >= shown.trace.length) return
    const wait = same ? this.ready - performance.now() : 0
    if (wait <= 0) {
      void this.fetch(id, language)
      return
    }
    const timer = setTimeout(() => void this.fetch(id, language), wait)
    return () => clearTimeout(timer)
  }

  private async fetch(node: string, language: string): Promise<void> {
    this.busy = true
    try {
      const found = await structureApi.of(node, language)
      if (focus.node !== node) return
      if (this.node !== node || this.asked !== language) this.forget()
      this.syntax = new Syntax(found)
      if (this.zoom >= this.syntax.length) this.zoom = 0
      this.failure = null
      this.ready = performance.now() + Math.max(LEAST_WAIT_MS, SHARE * found.cost_ms)
      this.node = node
      this.asked = language
    } catch (cause) {
      this.fail(cause)
      this.ready = performance.now() + 3000
      this.node = node
      this.asked = language
    } finally {
      this.busy = false
    }
  }

  private forget(): void {
    this.zoom = 0
    this.hovered = this.chosen = this.kind = null
  }

  private fail = (cause: unknown): void => {
    this.failure = cause instanceof Error ? cause.message : String(cause)
  }

  /** Choose a region: its tokens are selected in the code. */
  choose(region: number | null): void {
    this.chosen = region
    const tokens = region === null ? null : this.syntax?.tokens(region)
    if (!tokens) return
    focus.select(tokens.first)
    if (tokens.last !== tokens.first) focus.select(tokens.last, true)
  }

  remember(): void {
    keep('structure-level', this.level)
    keep('structure-how', this.how)
    keep('structure-unit', this.unit)
  }

  /** The first token that enters: prompt tokens never dilute what was generated. */
  from(trace: Trace): number {
    return look.colourPrompt || trace.nPrompt >= trace.length ? 0 : trace.nPrompt
  }

  /** Rows of the table: what there is at the level, by kind. */
  rows(syntax: Syntax, values: Float32Array, from: number): KindRow[] {
    return this.bit
      ? byKind(syntax, values, this.bit, from, this.how)
      : byLeaf(syntax, values, this.nameOf(syntax), from, this.how)
  }

  /** Name of a cell at a level that is made of leaves. */
  nameOf(syntax: Syntax): (cell: number) => string {
    const categories = this.info?.categories ?? []
    const category = (c: number): string => categories[syntax.raw.cell_category[c]] ?? 'other'
    if (this.level === 'category') return category
    return (c) => {
      const name = category(c)
      return name === 'whitespace' || name === 'indentation'
        ? `(${name})`
        : syntax.kind(syntax.raw.cell_region[c])
    }
  }

  /** The aggregate that colours each token, NaN for none: that of its group at the level. */
  byToken(trace: Trace, syntax: Syntax, values: Float32Array): Float64Array {
    const from = this.from(trace)
    const out = new Float64Array(syntax.covered).fill(NaN)
    const { cell_start, cell_region } = syntax.raw
    const known = new Map<string | number, number>()
    const near = this.bit ? syntax.nearest(this.bit) : null
    const nameOf = this.nameOf(syntax)
    const rows = near || this.level === 'line' ? [] : this.rows(syntax, values, from)
    for (const row of rows) known.set(row.kind, row.value)
    const lines = this.level === 'line' ? lineStarts(trace, syntax.size) : []
    for (let t = from; t < syntax.covered; t++) {
      const [lo, hi] = syntax.cellsOfToken(t)
      if (lo >= hi) continue
      const main = mainCell(syntax, lo, hi)
      if (near) {
        const region = near[cell_region[main]]
        if (region < 0 || (this.kind !== null && syntax.kind(region) !== this.kind)) continue
        if (!known.has(region)) {
          known.set(region, over(syntax, values, [syntax.cells(region)], from, this.how).value)
        }
        out[t] = known.get(region)!
      } else if (this.level === 'line') {
        const line = lastNotAbove(lines, cell_start[main])
        if (!known.has(line)) {
          const cells: [number, number] = [
            lastNotAbove(cell_start, lines[line] - 1) + 1,
            lastNotAbove(cell_start, (lines[line + 1] ?? syntax.size) - 1) + 1,
          ]
          known.set(line, over(syntax, values, [cells], from, this.how).value)
        }
        out[t] = known.get(line)!
      } else {
        const name = nameOf(main)
        if (this.kind === null || this.kind === name) out[t] = known.get(name) ?? NaN
      }
    }
    return out
  }

  /** Ends of the scale: the column's own, so that levels compare; sums need their own. */
  range(aggregates: Iterable<number>): Range {
    if (this.how !== 'sum') return look.range(look.column)
    const top = quantile(aggregates, 0.98)
    return { lo: 0, hi: Number.isNaN(top) ? 1 : niceAbove(top) }
  }
}

function mainCell(syntax: Syntax, lo: number, hi: number): number {
  const { cell_start } = syntax.raw
  let best = lo
  for (let c = lo + 1; c < hi; c++) {
    if (cell_start[c + 1] - cell_start[c] >= cell_start[best + 1] - cell_start[best]) best = c
  }
  return best
}

function lineStarts(trace: Trace, size: number): number[] {
  const out = [0]
  for (let b = 0; b < size - 1; b++) if (trace.data[b] === 10) out.push(b + 1)
  return out
}

export const view = new StructureView()
