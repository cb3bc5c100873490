/** How the tree of branches is drawn: order, colour, search, what is closed. */
import type { NodeInfo } from '../api/types'
import { figure, FIGURES, KINDS, type Figure } from '../core/figures'
import { outline, type Row } from '../core/outline'
import { step } from '../core/ramp'
import { place, rangeOf, type Range } from '../core/scale'
import { focus } from './focus.svelte'
import { keep, recall } from './keep'
import { look } from './look.svelte'
import { sessions } from './sessions.svelte'

/** From so many branches on, a row is one line. */
export const DENSE = 24
/** Siblings in sight, once there are many branches. */
const MOST = 12
const MANY = 60
const SERIES = ['--series-1', '--series-2', '--series-3', '--series-4', '--series-5', '--ink-3']

class OutlineState {
  /** '': by age. */
  sort = $state(recall('tree.sort', ''))
  /** A figure, a kind, or '' for none. */
  colour = $state(recall('tree.colour', ''))
  query = $state('')
  starred = $state(false)
  closed = $state.raw<ReadonlySet<string>>(new Set())
  unfolded = $state.raw<ReadonlySet<string>>(new Set())

  /** Outcomes of branches as an exploration tells them, in the order of its colours. */
  outcomes = $state.raw<{ of: ReadonlyMap<string, string>; order: readonly string[] }>({ of: new Map(), order: [] })

  dense = $derived(sessions.nodes.length > DENSE)
  searching = $derived(this.query.trim() !== '' || this.starred)

  rows: Row[] = $derived(
    outline(sessions.nodes, {
      sort: figure(this.sort),
      matches: this.searching ? (n) => this.matches(n) : null,
      closed: this.closed,
      unfolded: this.unfolded,
      shown: focus.node,
      most: sessions.nodes.length > MANY ? MOST : Infinity,
    }),
  )
  found = $derived(this.searching ? sessions.nodes.filter((n) => this.matches(n)).length : 0)

  /** The figure that each row shows: what is coloured by, else what is sorted by. */
  figure: Figure | null = $derived(figure(this.colour) ?? figure(this.sort))
  range: Range = $derived.by(() => {
    const f = figure(this.colour)
    if (!f) return { lo: 0, hi: 1 }
    if (f.share) return { lo: 0, hi: 1 }
    return rangeOf(
      { name: f.name, title: f.title, unit: f.unit, formula: '', source: '', lo: null, hi: null, better: f.better, scale: 'linear' },
      sessions.nodes.map(f.of),
    )
  })
  /** The kinds that occur, most frequent first, with the name of their colour. */
  kinds: { name: string; count: number; colour: string }[] = $derived.by(() => {
    const kind = KINDS[this.colour]
    if (!kind) return []
    const counts = new Map<string, number>()
    const { of, order } = this.outcomes
    for (const n of sessions.nodes) {
      const name = kind.of(n, of)
      counts.set(name, (counts.get(name) ?? 0) + 1)
    }
    const rest = SERIES.length - 1
    const found = [...counts].sort((a, b) => b[1] - a[1])
    if (this.colour !== 'outcome') {
      return found.map(([name, count], i) => ({ name, count, colour: `var(${SERIES[Math.min(i, rest)]})` }))
    }
    // an outcome has the colour that it has in the exploration
    return found.map(([name, count]) => {
      const i = order.indexOf(name)
      return { name, count, colour: `var(${SERIES[i < 0 ? rest : Math.min(i, rest - 1)]})` }
    })
  })

  private matches(n: NodeInfo): boolean {
    if (this.starred && !n.starred) return false
    const words = this.query.trim().toLowerCase().split(/\s+/).filter(Boolean)
    const text = `${n.title}\n${n.excerpt}\n${n.note}\n${n.model}`.toLowerCase()
    return words.every((w) => text.includes(w))
  }

  /** CSS colour of a branch's dot, null for none. */
  colourOf(n: NodeInfo): string | null {
    const kind = KINDS[this.colour]
    if (kind) return this.kinds.find((k) => k.name === kind.of(n, this.outcomes.of))?.colour ?? null
    const f = figure(this.colour)
    if (!f) return null
    const s = step(place(f.of(n), this.range, 'linear'), f.better)
    return s < 0 ? null : look.ramp('value').fill[s]
  }

  toggle(id: string): void {
    const closed = new Set(this.closed)
    if (!closed.delete(id)) closed.add(id)
    this.closed = closed
  }

  unfold(parent: string | null): void {
    this.unfolded = new Set([...this.unfolded, parent ?? ''])
  }

  choose(what: 'sort' | 'colour', name: string): void {
    this[what] = name
    keep(`tree.${what}`, name)
  }
}

export const tree = new OutlineState()
export { FIGURES, KINDS }
