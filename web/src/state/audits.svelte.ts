/** Audits of this server: the list, the one that is looked at, those that run. */
import { api } from '../api/client'
import { auditsApi, type Audit, type AuditAsk, type AuditInfo } from '../api/audits'
import { background } from './background.svelte'
import { notices } from './notices.svelte'

const EVERY_MS = 1000 // while one runs

class Audits {
  /** null until asked for once. */
  list = $state.raw<AuditInfo[] | null>(null)
  /** Id of the one that is looked at; null: a new one is being written. */
  chosen = $state<string | null>(null)
  /** The chosen one, as far as it has come. */
  shown = $state.raw<Audit | null>(null)
  failure = $state<string | null>(null)
  asking = $state(false)
  private timer: ReturnType<typeof setTimeout> | undefined
  private line: AbortController | null = null
  private watching = 0

  running: AuditInfo[] = $derived((this.list ?? []).filter((a) => a.status === 'running'))
  /** The chosen one's line in the list: fresher than `shown`. */
  info: AuditInfo | null = $derived(
    (this.list ?? []).find((a) => a.id === this.chosen) ?? (this.shown?.info.id === this.chosen ? this.shown.info : null),
  )

  /** Keep the list fresh while something runs. Call inside an effect; returns its clean-up. */
  watch(): () => void {
    this.watching++
    void this.refresh()
    return () => {
      this.watching--
      clearTimeout(this.timer)
    }
  }

  async refresh(): Promise<void> {
    clearTimeout(this.timer)
    const before = this.info
    try {
      this.list = await auditsApi.list()
      this.failure = null
      const now = this.info
      const stale = this.shown?.info.id !== this.chosen || before?.done !== now?.done || before?.status !== now?.status
      if (this.chosen !== null && stale) void this.look(this.chosen)
    } catch (cause) {
      this.failure = cause instanceof Error ? cause.message : String(cause)
    }
    if (this.watching > 0 && this.running.length > 0) {
      clearTimeout(this.timer)
      this.timer = setTimeout(() => void this.refresh(), EVERY_MS)
    }
  }

  /** Look at one, or at none: then a new one is written. */
  choose(id: string | null): void {
    if (id === this.chosen) return
    this.chosen = id
    this.shown = null
    this.failure = null
    if (id !== null) void this.look(id)
  }

  private async look(id: string): Promise<void> {
    this.line?.abort()
    const line = (this.line = new AbortController())
    try {
      const found = await auditsApi.of(id, line.signal)
      if (!line.signal.aborted && this.chosen === id) this.shown = found
    } catch (cause) {
      if (line.signal.aborted || this.chosen !== id) return
      this.failure = cause instanceof Error ? cause.message : String(cause)
    }
  }

  /** Begin one and look at it. */
  async begin(ask: Partial<AuditAsk>): Promise<boolean> {
    return this.guarded(async () => {
      const { id } = await auditsApi.begin(ask)
      this.choose(id)
      void background.look()
    })
  }

  async resume(id: string): Promise<void> {
    await this.guarded(async () => {
      await auditsApi.resume(id)
      void background.look()
    })
  }

  async cancel(info: AuditInfo): Promise<void> {
    if (info.run) await this.guarded(async () => void (await api.cancel(info.run!)))
  }

  private async guarded(work: () => Promise<void>): Promise<boolean> {
    this.asking = true
    try {
      await work()
      await this.refresh()
      return true
    } catch (cause) {
      notices.fail(cause)
      return false
    } finally {
      this.asking = false
    }
  }
}

export const audits = new Audits()
