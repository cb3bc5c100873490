import { sentence } from '../core/format'

/** Short messages at the edge of the page; one with `undo` takes something back. */
export interface Notice {
  id: number
  text: string
  tone: 'plain' | 'bad'
  action: { label: string; run: () => void } | null
}

const LASTS_MS = 10_000

class Notices {
  list = $state.raw<Notice[]>([])
  private next = 1

  say(text: string, action: Notice['action'] = null): void {
    this.add({ text, tone: 'plain', action })
  }

  /** Something failed. Stays until it is dismissed. */
  fail(cause: unknown, what = ''): void {
    const why = sentence(cause instanceof Error ? cause.message : String(cause))
    this.add({ text: what ? `${what} ${why}` : why, tone: 'bad', action: null })
  }

  /** The newest action that can still be taken back, for the undo key. */
  undo(): boolean {
    const last = this.list.findLast((n) => n.action)
    if (!last) return false
    last.action!.run()
    this.drop(last.id)
    return true
  }

  drop(id: number): void {
    this.list = this.list.filter((n) => n.id !== id)
  }

  private add(n: Omit<Notice, 'id'>): void {
    const id = this.next++
    const same = this.list.filter((o) => o.text !== n.text || o.action)
    this.list = [...same.slice(-2), { ...n, id }]
    if (n.tone === 'plain') setTimeout(() => this.drop(id), LASTS_MS)
  }
}

export const notices = new Notices()
