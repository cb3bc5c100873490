/** The patch map that is shown, and the job that makes it. */
import { explainApi, type PatchAsk, type PatchMap } from '../../api/explain'

class Patch {
  made = $state.raw<PatchMap | null>(null)
  /** What `made` belongs to: node and token. */
  key = $state('')
  cost = $state('')
  progress = $state.raw<{ done: number; total: number } | null>(null)
  running = $state(false)
  failure = $state<string | null>(null)
  private stopper: AbortController | null = null

  async ask(node: string, body: PatchAsk): Promise<void> {
    this.stop()
    const stopper = new AbortController()
    this.stopper = stopper
    Object.assign(this, { key: `${node} ${body.at}`, made: null, failure: null, cost: '', progress: null, running: true })
    try {
      for await (const event of explainApi.patch(node, body, stopper.signal)) {
        if (stopper.signal.aborted) return
        if (event.type === 'start') this.cost = event.cost
        else if (event.type === 'progress') this.progress = event
        else if (event.type === 'patch') this.made = event
        else if (event.type === 'error') this.failure = event.message
      }
    } catch (cause) {
      if (stopper.signal.aborted) return
      this.failure = cause instanceof Error ? cause.message : String(cause)
    } finally {
      if (this.stopper === stopper) {
        this.running = false
        this.progress = null
      }
    }
  }

  /** Leaving the stream tells the server to stop before its next piece of work. */
  stop(): void {
    this.stopper?.abort()
    this.stopper = null
    this.running = false
    this.progress = null
  }
}

export const patch = new Patch()
