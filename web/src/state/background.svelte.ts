/** Jobs that go on in sessions that are not open: which, and how far. Asked for while there are any. */
import { api } from '../api/client'
import type { JobInfo } from '../api/types'
import { sessions } from './sessions.svelte'

const EVERY_MS = 2000

class Background {
  jobs = $state.raw<JobInfo[]>([])
  /** Those of other sessions. */
  elsewhere: JobInfo[] = $derived(
    this.jobs.filter((j) => j.running && j.session && j.session !== sessions.open?.id),
  )
  /** Whether an audit runs: it belongs to no session. */
  auditing = $derived(this.jobs.some((j) => j.running && (j.kind as string) === 'audit'))
  private timer: ReturnType<typeof setTimeout> | undefined

  /** Look now, and again while something runs. */
  async look(): Promise<void> {
    clearTimeout(this.timer)
    this.timer = undefined
    const ran = this.elsewhere.length
    try {
      this.jobs = await api.jobs()
    } catch {
      return // the next look finds out
    }
    if (this.elsewhere.length < ran) void sessions.refresh().catch(() => undefined)
    if (this.jobs.some((j) => j.running)) this.timer = setTimeout(() => void this.look(), EVERY_MS)
  }

  in(session: string): number {
    return this.elsewhere.filter((j) => j.session === session).length
  }
}

export const background = new Background()
