import type { NodeInfo } from '../../api/types'
import { shown as visible } from '../../core/visible'

/** A branch in a few words: its title, or what it says from where it differs. */
export function nodeName(n: NodeInfo): string {
  const text = visible(n.excerpt.trim(), 40)
  return n.title || (n.parent === null ? text || 'the first branch' : `at ${n.at}: ${text || '∅'}`)
}
