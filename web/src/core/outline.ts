/**
 * The rows in which a tree of branches is drawn. It stays readable with hundreds of them: a line
 * of only children does not move to the right, of many siblings the first few stand and the
 * others wait behind one row, and what a search leaves out is gone but for the way to what it found.
 */
import type { NodeInfo } from '../api/types'
import type { Figure } from './figures'
import { byAge } from './tree'

export interface BranchRow {
  kind: 'branch'
  key: string
  node: NodeInfo
  /** True depth, for assistive technology. */
  level: number
  /** For each step to the right: whether its rail goes on below this row; the last is the elbow. */
  rails: boolean[]
  /** Continues the row above it straight down: an only child. */
  spine: boolean
  children: number
  open: boolean
  /** Branches below it that are not shown because it is closed. */
  hidden: number
  /** It only leads to what was searched for. */
  dim: boolean
  /** Its place among its siblings, from 1, and how many they are. */
  place: number
  among: number
}

export interface MoreRow {
  kind: 'more'
  key: string
  /** Whose children wait; null: roots. */
  parent: string | null
  level: number
  rails: boolean[]
  /** How many siblings wait, with all that grew from them. */
  siblings: number
  hidden: number
}

export type Row = BranchRow | MoreRow

export interface Outline {
  /** null: oldest first; else best first by this figure. */
  sort: Figure | null
  matches: ((n: NodeInfo) => boolean) | null
  closed: ReadonlySet<string>
  /** Parents of whom every child is shown ('' for the roots). */
  unfolded: ReadonlySet<string>
  /** The branch that is shown: neither it nor its forebears are ever hidden. */
  shown: string | null
  /** Most siblings in sight at once. */
  most: number
}

/** Best first: small where low is good, large elsewhere; undefined last; ties by age. */
export function byFigure(f: Figure): (a: NodeInfo, b: NodeInfo) => number {
  const sign = f.better === 'low' || f.name === 'at' ? 1 : -1
  return (a, b) => {
    const [x, y] = [f.of(a), f.of(b)]
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y)) || byAge(a, b)
    return sign * (x - y) || byAge(a, b)
  }
}

export function outline(nodes: NodeInfo[], how: Outline): Row[] {
  const known = new Map(nodes.map((n) => [n.id, n]))
  const children = new Map<string | null, NodeInfo[]>()
  for (const n of [...nodes].sort(how.sort ? byFigure(how.sort) : byAge)) {
    const parent = n.parent !== null && known.has(n.parent) ? n.parent : null
    const list = children.get(parent)
    if (list) list.push(n)
    else children.set(parent, [n])
  }
  const of = (id: string | null): NodeInfo[] => children.get(id) ?? []
  const line = forebears(known, how.shown)
  const found = how.matches ? withForebears(known, nodes.filter(how.matches)) : null
  const size = sizes(nodes, known)
  const out: Row[] = []

  const walk = (parent: string | null, level: number, rails: boolean[]): void => {
    const all = of(parent)
    const some = found ? all.filter((n) => found.has(n.id)) : all
    const few = found || how.unfolded.has(parent ?? '') || some.length <= how.most + 1
    const list = few ? some : some.filter((n, i) => i < how.most || line.has(n.id))
    const rest = some.length - list.length
    const spine = level > 1 && all.length === 1
    list.forEach((node, i) => {
      const last = i === list.length - 1 && rest === 0
      const own = of(node.id)
      const open = found !== null || !how.closed.has(node.id) || (line.has(node.id) && node.id !== how.shown)
      const drawn = level === 0 ? [] : spine ? rails : [...rails, !last]
      out.push({
        kind: 'branch', key: node.id, node, level, rails: drawn, spine,
        children: own.length, open: open && own.length > 0,
        hidden: open ? 0 : size.get(node.id)! - 1,
        dim: found !== null && !how.matches!(node),
        place: all.indexOf(node) + 1, among: all.length,
      }) // prettier-ignore
      if (open) walk(node.id, level + 1, drawn)
    })
    if (rest > 0) {
      const gone = some.filter((n) => !list.includes(n))
      out.push({
        kind: 'more', key: `more ${parent ?? ''}`, parent, level,
        rails: level === 0 ? [] : [...rails, false],
        siblings: rest, hidden: gone.reduce((s, n) => s + size.get(n.id)!, 0),
      }) // prettier-ignore
    }
  }
  walk(null, 0, [])
  return out
}

/** A branch and those that it grew from. */
function forebears(known: ReadonlyMap<string, NodeInfo>, id: string | null): Set<string> {
  const out = new Set<string>()
  for (let n = id === null ? undefined : known.get(id); n && !out.has(n.id); ) {
    out.add(n.id)
    n = n.parent === null ? undefined : known.get(n.parent)
  }
  return out
}

function withForebears(known: ReadonlyMap<string, NodeInfo>, some: NodeInfo[]): Set<string> {
  const out = new Set<string>()
  for (const one of some) {
    for (let n: NodeInfo | undefined = one; n && !out.has(n.id); ) {
      out.add(n.id)
      n = n.parent === null ? undefined : known.get(n.parent)
    }
  }
  return out
}

/** How many branches a branch stands for: itself and all that grew from it. */
function sizes(nodes: NodeInfo[], known: ReadonlyMap<string, NodeInfo>): Map<string, number> {
  const out = new Map(nodes.map((n) => [n.id, 0]))
  for (const n of nodes) for (const id of forebears(known, n.id)) out.set(id, out.get(id)! + 1)
  return out
}
