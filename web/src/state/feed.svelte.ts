/**
 * The one stream of events that the page reads: of all jobs of the session that is open. When the
 * line breaks it is joined again after the last event seen, so nothing is lost or doubled.
 */
import { api } from '../api/client'
import { ApiError } from '../api/errors'
import type { FeedEvent, HelloEvent, JobInfo } from '../api/types'

type Message = Exclude<FeedEvent, HelloEvent>

const AGAIN_MS = [250, 500, 1000, 2000, 4000]
const PATIENCE_MS = 3000 // a job may be begun before the stream stands; it is then joined later

class Feed {
  /** The session whose jobs are read. */
  session: string | null = null
  private seen = ''
  private line: AbortController | null = null
  private ready: Promise<void> = Promise.resolve()
  private takers: ((message: Message) => void)[] = []
  private greeted: ((jobs: JobInfo[]) => void)[] = []

  /** `take` gets every event; `hello` the jobs of the session, each time that the line stands. */
  on(take: (message: Message) => void, hello: (jobs: JobInfo[]) => void = () => undefined): void {
    this.takers.push(take)
    this.greeted.push(hello)
  }

  /** Read the jobs of this session from now on. Resolves when the line stands, or after a while. */
  watch(session: string | null): Promise<void> {
    if (session === this.session) return this.ready
    this.line?.abort()
    this.session = session
    this.seen = ''
    if (session === null) return (this.ready = Promise.resolve())
    const line = (this.line = new AbortController())
    this.ready = new Promise((resolve) => {
      setTimeout(resolve, PATIENCE_MS)
      void this.keep(session, line.signal, resolve)
    })
    return this.ready
  }

  private async keep(session: string, signal: AbortSignal, stands: () => void): Promise<void> {
    for (let tries = 0; !signal.aborted; tries++) {
      try {
        for await (const { id, message } of api.events(session, this.seen, signal)) {
          if (signal.aborted) return
          tries = 0
          if (id) this.seen = id
          if ('type' in message) {
            for (const hello of this.greeted) hello(message.jobs)
            stands()
          } else for (const take of this.takers) take(message)
        }
      } catch (cause) {
        if (signal.aborted) return
        if (cause instanceof ApiError && cause.signedOut) tries = AGAIN_MS.length
      }
      const wait = AGAIN_MS[Math.min(tries, AGAIN_MS.length - 1)]
      await new Promise((resolve) => setTimeout(resolve, wait))
    }
  }
}

export const feed = new Feed()
