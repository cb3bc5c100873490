/** The edits that are being tried, the branch that shows what they change, and the sets kept by name. */
import { api } from '../../api/client'
import { editsApi, type Edit, type EditKind } from '../../api/edits'
import { blank, complete } from '../../core/edits'
import { focus } from '../../state/focus.svelte'
import { keep, recall } from '../../state/keep'
import { notices } from '../../state/notices.svelte'
import { runs } from '../../state/runs.svelte'
import { sessions } from '../../state/sessions.svelte'
import { decoding } from '../../state/settings.svelte'

/** Where a trial leaves the text that it is compared with. */
export interface Base {
  node: string
  at: number
}

const SETTLE_MS = 250 // while a slider moves, do not decode for each of its places

class WhatIf {
  kinds = $state.raw<EditKind[] | null>(null)
  failure = $state<string | null>(null)
  edits = $state.raw<Edit[]>(recall<Edit[]>('whatif.edits', []))
  sets = $state.raw<Record<string, Edit[]>>(recall('edit-sets', {}))
  /** The branch that was decoded with the edits last, and what it left. */
  trial = $state.raw<{ node: string; base: Base } | null>(null)
  private loading: Promise<void> | null = null
  private timer: ReturnType<typeof setTimeout> | undefined
  private again = false
  private busy = false

  ready = $derived(this.edits.length > 0 && this.edits.every((e) => complete(this.kind(e.kind), e)))
  /** Whether every decoding of this page takes these very edits. */
  everywhere = $derived(
    decoding.values.edits.length > 0 && JSON.stringify(decoding.values.edits) === JSON.stringify(this.edits),
  )

  /** What a trial would leave, and where: the trial's own base while a trial is shown. */
  base: Base | null = $derived.by(() => {
    const trace = focus.shown?.trace
    if (!trace) return null
    if (this.trial && trace.node.id === this.trial.node) return this.trial.base
    const at = focus.token !== null && focus.token > 0 ? focus.token : trace.nPrompt
    return { node: trace.node.id, at: Math.min(at, trace.length) }
  })

  load(): Promise<void> {
    this.loading ??= editsApi.kinds().then(
      ({ kinds }) => void (this.kinds = kinds),
      (cause: unknown) => {
        this.loading = null
        this.failure = cause instanceof Error ? cause.message : String(cause)
      },
    )
    return this.loading
  }

  kind(name: string): EditKind | null {
    return this.kinds?.find((k) => k.kind === name) ?? null
  }

  private put(edits: Edit[]): void {
    this.edits = edits
    keep('whatif.edits', edits)
  }

  add(kind: EditKind): void {
    this.put([...this.edits, blank(kind)])
  }

  remove(i: number): void {
    this.put(this.edits.filter((_, j) => j !== i))
  }

  /** Another value in a field; `live`: decode again when it has settled. */
  set(i: number, name: string, value: unknown, live = false): void {
    this.put(this.edits.map((e, j) => (j === i ? ({ ...e, [name]: value } as Edit) : e)))
    if (!live || !this.ready || !this.trial || this.trial.node !== focus.node) return
    clearTimeout(this.timer)
    this.timer = setTimeout(() => void this.run(), SETTLE_MS)
  }

  /** Decode from the base with the edits; the trial before this one makes room for it. */
  async run(): Promise<void> {
    clearTimeout(this.timer)
    const base = this.base
    if (!base || !this.ready) return
    if (this.busy) {
      this.again = true
      return
    }
    this.busy = true
    const before = this.trial && this.trial.node === focus.node ? this.trial.node : null
    try {
      const node = await runs.tryOut(base.node, base.at, this.edits)
      if (node === null) return
      this.trial = { node, base }
      if (before !== null) await this.replace(before)
    } finally {
      this.busy = false
      if (this.again) {
        this.again = false
        void this.run()
      }
    }
  }

  /** A trial that another one replaces: it goes, unless something grew from it or it was marked. */
  private async replace(node: string): Promise<void> {
    const old = sessions.node(node)
    if (!old || old.starred || old.note || old.title || sessions.nodes.some((n) => n.parent === node)) return
    try {
      await api.deleteNode(node)
      sessions.forget(node)
    } catch (cause) {
      notices.fail(cause)
    }
  }

  save(name: string): void {
    this.sets = { ...this.sets, [name]: this.edits }
    keep('edit-sets', this.sets)
  }

  take(name: string): void {
    const set = this.sets[name]
    if (set) this.put(set)
  }

  drop(name: string): void {
    this.sets = Object.fromEntries(Object.entries(this.sets).filter(([n]) => n !== name))
    keep('edit-sets', this.sets)
  }

  /** Every prompt and branch from now on, or none. */
  apply(on: boolean): void {
    decoding.set('edits', on ? this.edits : [])
  }
}

export const whatif = new WhatIf()
