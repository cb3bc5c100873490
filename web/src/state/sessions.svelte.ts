/** The list of sessions, and the one that is open with its branches. */
import { api } from '../api/client'
import type { NodeInfo, NodeSaid, Session, SessionInfo } from '../api/types'
import { subtree } from '../core/tree'
import { notices } from './notices.svelte'
import { traces } from './traces.svelte'

class Sessions {
  /** null until the list has been fetched once. */
  list = $state.raw<SessionInfo[] | null>(null)
  open = $state.raw<Session | null>(null)
  /** Id of a session that was opened to be read: nothing is decoded, changed or deleted in it. */
  toRead = $state<string | null>(null)
  readOnly: boolean = $derived(this.open !== null && this.open.id === this.toRead)
  nodes: NodeInfo[] = $derived(this.open?.nodes ?? [])
  /** The session that was open before: shown again from memory if the server does not answer. */
  private before: Session | null = null
  private changes = 0

  /** Fetch the list. An answer that was overtaken by a change made here is asked for again. */
  async refresh(): Promise<void> {
    const seen = this.changes
    const list = await api.sessions()
    if (seen !== this.changes) return this.refresh()
    this.list = list
    // A new session gets its title from its first prompt.
    const own = list.find((s) => s.id === this.open?.id)
    if (own && this.open) this.open = { ...this.open, title: own.title }
  }

  /** Fetch a session and make it the open one. */
  async load(id: string): Promise<Session> {
    const session = await api.session(id)
    if (this.open?.id !== id) traces.clear()
    this.open = session
    return session
  }

  /** Put a file that was handed on into a session of its own. Returns it. */
  async take(file: File): Promise<Session> {
    const session = await api.importSession(file)
    this.changes++
    await this.refresh()
    return session
  }

  /** Whether it may be changed; says so where not. */
  writable(): boolean {
    if (this.readOnly) notices.say('This session is open to be read only.', { label: 'Change it', run: () => (this.toRead = null) })
    return !this.readOnly
  }

  async create(): Promise<Session> {
    const session = await api.newSession()
    traces.clear()
    this.open = session
    // In the list at once: its figures and its title follow when the first run has ended.
    const { id, title, created, updated } = session
    this.changes++
    this.list = [{ id, title, created, updated, branches: 1, tokens: 0 }, ...(this.list ?? [])]
    return session
  }

  close(): void {
    this.before = this.open ?? this.before
    this.open = null
  }

  /** Open a session from memory, as it was when it was left. */
  remembered(id: string): Session | null {
    if (this.open?.id === id) return this.open
    if (this.before?.id !== id) return null
    this.open = this.before
    return this.open
  }

  node(id: string): NodeInfo | null {
    return this.nodes.find((n) => n.id === id) ?? null
  }

  /** A branch was made or has changed. */
  putNode(node: NodeInfo): void {
    const open = this.open
    if (!open || open.id !== node.session) return
    const others = open.nodes.filter((n) => n.id !== node.id)
    const at = open.nodes.findIndex((n) => n.id === node.id)
    const nodes = at < 0 ? [...others, node] : open.nodes.map((n) => (n.id === node.id ? node : n))
    this.open = { ...open, nodes }
  }

  async renameNode(id: string, title: string): Promise<void> {
    await this.annotate(id, { title })
  }

  /** What the reader says of a branch; what is left out stays as it is. */
  async annotate(id: string, said: NodeSaid): Promise<void> {
    if (!this.writable()) return
    this.putNode(await api.annotateNode(id, said))
  }

  async rename(id: string, title: string): Promise<void> {
    const info = await api.renameSession(id, title)
    this.changes++
    this.list = (this.list ?? []).map((s) => (s.id === id ? info : s))
    if (this.open?.id === id) this.open = { ...this.open, title: info.title }
  }

  /** A branch is gone from the server. */
  forget(id: string): void {
    const open = this.open
    if (open) this.open = { ...open, nodes: open.nodes.filter((n) => n.id !== id) }
  }

  /** Delete a branch with what grew from it. Returns the ids that are gone. */
  async removeNode(id: string, undone: () => void): Promise<Set<string>> {
    if (!this.writable()) return new Set()
    await api.deleteNode(id)
    const gone = subtree(this.nodes, id)
    const open = this.open
    if (open) this.open = { ...open, nodes: open.nodes.filter((n) => !gone.has(n.id)) }
    const more = gone.size - 1
    const grown = more === 0 ? '' : ` with the ${more} that grew from it`
    notices.say(`Branch deleted${grown}.`, {
      label: 'Undo',
      run: () => void this.restoreNode(id).then(undone, (e) => notices.fail(e)),
    })
    void this.refresh().catch(() => undefined)
    return gone
  }

  private async restoreNode(id: string): Promise<void> {
    const session = await api.restoreNode(id)
    if (this.open?.id === session.id) this.open = session
    await this.refresh()
  }

  async remove(id: string, undone: () => void): Promise<void> {
    const title = this.list?.find((s) => s.id === id)?.title ?? ''
    await api.deleteSession(id)
    this.changes++
    this.list = (this.list ?? []).filter((s) => s.id !== id)
    if (this.open?.id === id) this.close()
    notices.say(title ? `“${title}” deleted.` : 'Session deleted.', {
      label: 'Undo',
      run: () =>
        void api
          .restoreSession(id)
          .then(() => this.refresh())
          .then(undone, (e) => notices.fail(e)),
    })
  }
}

export const sessions = new Sessions()
