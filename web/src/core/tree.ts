/** The branches of a session as a tree: who is whose kin. How it is drawn: core/outline. */
import type { NodeInfo } from '../api/types'

export const byAge = (a: NodeInfo, b: NodeInfo): number =>
  a.created < b.created ? -1 : a.created > b.created ? 1 : a.id < b.id ? -1 : 1

/** The branches that grew from the same parent, this one among them, oldest first. */
export function siblings(nodes: NodeInfo[], id: string): string[] {
  const me = nodes.find((n) => n.id === id)
  if (!me) return []
  return nodes
    .filter((n) => n.parent === me.parent)
    .sort(byAge)
    .map((n) => n.id)
}

/**
 * The neighbour that `[` and `]` go to. At an only child (often the first branch from a root) the
 * walk goes through the parent and its children instead, so that the keys always compare.
 */
export function neighbour(nodes: NodeInfo[], id: string, step: 1 | -1): string | null {
  let ring = siblings(nodes, id)
  const me = nodes.find((n) => n.id === id)
  if (ring.length < 2 && me) {
    const kin = nodes.filter((n) => n.parent === id || n.id === me.parent || n.id === id)
    ring = kin.sort(byAge).map((n) => n.id)
  }
  if (ring.length < 2) return null
  return ring[(ring.indexOf(id) + step + ring.length) % ring.length]
}

/** A branch and everything that grew from it. */
export function subtree(nodes: NodeInfo[], id: string): Set<string> {
  const out = new Set([id])
  let grew = true
  while (grew) {
    grew = false
    for (const n of nodes) {
      if (n.parent !== null && out.has(n.parent) && !out.has(n.id)) {
        out.add(n.id)
        grew = true
      }
    }
  }
  return out
}

/**
 * Tokens of branch `id` where other branches leave it: token index -> ids of those branches.
 * A branch that left an ancestor inside the shared part leaves this one there, too.
 */
export function forks(nodes: NodeInfo[], id: string): Map<number, string[]> {
  const byId = new Map(nodes.map((n) => [n.id, n]))
  const out = new Map<number, string[]>()
  let shared = Infinity
  let from: string | null = null
  for (let n = byId.get(id); n; n = n.parent === null ? undefined : byId.get(n.parent)) {
    for (const child of nodes) {
      if (child.parent !== n.id || child.id === from || child.at >= shared) continue
      out.set(child.at, [...(out.get(child.at) ?? []), child.id])
    }
    shared = Math.min(shared, n.at)
    from = n.id
  }
  return out
}
