import type { NodeInfo } from '../../api/types'
import { shown } from '../../core/visible'

/** A text on one line, hostile characters named. */
export const visible = (text: string, most = 60): string => shown(text, most) || '∅'

/** A branch in a few words: its title, or what it says from where it differs. */
export function nodeName(n: NodeInfo): string {
  const text = shown(n.excerpt.trim(), 40)
  return n.title || (n.parent === null ? text || 'the first branch' : `at ${n.at}: ${text || '∅'}`)
}
