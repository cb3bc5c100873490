/** The ledger that is shown: what is asked, the job, its arms as they come. */
import { api } from '../../api/client'
import { ledgerApi, type LedgerArm, type LedgerAsk, type LedgerEvent, type LedgerStart } from '../../api/ledger'
import { keep, keepHere, recall, recallHere } from '../../state/keep'

const FORM = {
  prompts: '', gallery: [] as string[], sets: [] as string[], outcome: 'syntax', pattern: '', reference: '',
  draws: 1, temperature: 0, tokens: 32, language: 'python',
} // prettier-ignore

class LedgerState {
  form = $state({ ...FORM, ...recall<Partial<typeof FORM>>('ledger', {}) })
  run = $state<string | null>(null)
  running = $state(false)
  failure = $state<string | null>(null)
  progress = $state.raw<{ done: number; total: number } | null>(null)
  begun = $state.raw<LedgerStart | null>(null)
  arms = $state.raw<LedgerArm[]>([])
  standsOut = $state.raw<string[] | null>(null)
  private line: AbortController | null = null

  set<K extends keyof typeof FORM>(name: K, value: (typeof FORM)[K]): void {
    this.form = { ...this.form, [name]: value }
    keep('ledger', this.form)
  }

  async ask(body: LedgerAsk): Promise<void> {
    this.stop()
    this.failure = null
    this.running = true
    this.clear()
    try {
      const { run } = await ledgerApi.begin(body)
      keepHere('ledger.run', run)
      await this.follow(run)
    } catch (cause) {
      this.failure = cause instanceof Error ? cause.message : String(cause)
      this.running = false
    }
  }

  /** After a reload: take up the one that this tab began. */
  resume(): void {
    const run = recallHere<string | null>('ledger.run', null)
    if (run === null || this.run !== null || this.running) return
    this.running = true
    this.follow(run).catch(() => {
      keepHere('ledger.run', null) // the server knows nothing of it any more
      this.run = null
      this.running = false
    })
  }

  private clear(): void {
    this.run = null
    this.begun = null
    this.arms = []
    this.standsOut = null
    this.progress = null
  }

  private async follow(run: string): Promise<void> {
    this.run = run
    const line = (this.line = new AbortController())
    try {
      for await (const message of api.eventsOf(run, line.signal)) {
        if (line.signal.aborted) return
        this.take(message.event as unknown as LedgerEvent)
      }
    } finally {
      if (this.line === line) {
        this.running = false
        this.progress = null
      }
    }
  }

  private take(event: LedgerEvent): void {
    if (event.type === 'start') this.begun = event
    else if (event.type === 'progress') this.progress = { done: event.done, total: event.total }
    else if (event.type === 'arm') this.arms = [...this.arms.filter((a) => a.name !== event.name), event]
    else if (event.type === 'ledger') this.standsOut = event.stands_out
    else if (event.type === 'error') this.failure = event.message
  }

  stop(): void {
    if (this.run !== null && this.running) void api.cancel(this.run).catch(() => undefined)
    this.line?.abort()
    this.line = null
    this.running = false
  }
}

export const ledger = new LedgerState()
