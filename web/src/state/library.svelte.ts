/** The models at hand, and the jobs that fetch or load one: how far they are, how they ended. */
import { api } from '../api/client'
import { libraryApi, type Entry, type Library, type Way } from '../api/library'
import type { JobInfo } from '../api/types'
import { models } from './models.svelte'
import { notices } from './notices.svelte'

/** A job that is followed: `left` in seconds, where the server can tell. */
export interface Work {
  run: string
  what: string
  done: number
  total: number | null
  began: number
}

type Told =
  | { type: 'progress'; done: number; total: number; what: string }
  | { type: 'error'; message: string; code?: string }
  | { type: 'done' }

class Models {
  shown = $state.raw<Library | null>(null)
  failure = $state<string | null>(null)
  /** Address of the entry that is looked at. */
  at = $state<string | null>(null)
  /** Name of what is fetched -> how far. */
  fetching = $state.raw<Record<string, Work>>({})
  /** Id of an offer that is loaded just now -> how far. */
  loading = $state.raw<Record<string, Work>>({})

  entry: Entry | null = $derived(this.shown?.models.find((m) => m.address === this.at) ?? null)

  async refresh(): Promise<void> {
    try {
      const [library] = await Promise.all([libraryApi.library(), models.refresh()])
      this.shown = library
      this.failure = null
      if (!library.models.some((m) => m.address === this.at)) this.at = library.models[0]?.address ?? null
      for (const m of models.list) {
        if (m.state === 'loading' && m.run && !this.loading[m.id]) void this.follow(m.run, m.id, 'loading')
      }
    } catch (cause) {
      this.failure = cause instanceof Error ? cause.message : String(cause)
    }
  }

  /** Jobs of another page, or from before a reload, are followed here, too. */
  async takeUp(): Promise<void> {
    const jobs = await api.jobs().catch((): JobInfo[] => [])
    const names = this.shown?.models.flatMap((m) => (m.get === null ? [] : [m.get])) ?? []
    const fetches = jobs.filter((j) => j.running && j.kind === 'fetch')
    // a job does not tell what it fetches: with one row to fetch it is that one
    if (fetches.length === 1 && names.length === 1 && !this.fetching[names[0]]) {
      void this.follow(fetches[0].run, names[0], 'fetching')
    }
  }

  async get(name: string): Promise<void> {
    try {
      await this.follow((await libraryApi.get(name)).run, name, 'fetching')
    } catch (cause) {
      notices.fail(cause, 'It could not be fetched.')
    }
  }

  /** Load an entry as it is offered, or in a form of its own; new prompts go to it when it is there. */
  async load(entry: Entry, way: Way | null = null): Promise<void> {
    try {
      let id = entry.offer
      if (way?.dtype) {
        id = (await libraryApi.offer({ address: entry.address, dtype: way.dtype, max_memory: way.max_memory })).id
      }
      if (id === null) return
      const going = models.choose(id)
      void this.refresh()
      await going
    } finally {
      await this.refresh()
    }
  }

  async unload(id: string): Promise<void> {
    await models.unload(id)
    await this.refresh()
  }

  stop(run: string): void {
    api.cancel(run).catch((cause: unknown) => notices.fail(cause, 'It could not be stopped.'))
  }

  private put(kind: 'fetching' | 'loading', name: string, work: Work | null): void {
    const rest = Object.fromEntries(Object.entries(this[kind]).filter(([n]) => n !== name))
    this[kind] = work ? { ...rest, [name]: work } : rest
  }

  private async follow(run: string, name: string, kind: 'fetching' | 'loading'): Promise<void> {
    let work: Work = { run, what: '', done: 0, total: null, began: performance.now() }
    this.put(kind, name, work)
    try {
      for await (const { message } of libraryApi.follow(run, new AbortController().signal)) {
        if (!('event' in message)) continue
        const told = message.event as unknown as Told
        if (told.type === 'progress') {
          work = { ...work, done: told.done, total: told.total, what: told.what }
          this.put(kind, name, work)
        } else if (told.type === 'error' && kind === 'fetching') {
          notices.fail(new Error(told.message), 'It could not be fetched.')
        }
      }
    } finally {
      this.put(kind, name, null)
      await this.refresh()
    }
  }
}

export const library = new Models()
