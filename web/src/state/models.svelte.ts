/** The models that the server offers: which is meant for new prompts, and loading others. */
import { api } from '../api/client'
import type { ModelState } from '../api/types'
import { feed } from './feed.svelte'
import { model } from './model.svelte'
import { notices } from './notices.svelte'

const EVERY_MS = 1000

class Models {
  list = $state.raw<ModelState[]>([])
  /** Id of the model that new prompts go to. */
  chosen = $state<string | null>(null)
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor() {
    // a model that another page loads is seen here, too
    feed.on((message) => {
      if ((message as { kind: string }).kind === 'load') void this.refresh()
    })
  }

  async refresh(): Promise<void> {
    clearTimeout(this.timer)
    this.list = await api.models()
    const before = this.chosen
    const known = this.list.find((m) => m.id === before && m.state === 'loaded')
    this.chosen = (known ?? this.list.find((m) => m.state === 'loaded'))?.id ?? null
    if (this.chosen === null) model.info = null
    else if (before !== null && before !== this.chosen) {
      const { chosen } = this
      const info = await api.model(undefined, chosen)
      if (this.chosen === chosen) model.info = info
    }
    if (this.list.some((m) => m.state === 'loading')) {
      this.timer = setTimeout(() => void this.refresh().catch(() => undefined), EVERY_MS)
    }
  }

  /** Resolves when it is loaded; throws where it cannot be. */
  async ready(id: string): Promise<void> {
    if (this.list.find((m) => m.id === id)?.state !== 'loaded') await this.load(id)
  }

  /** New prompts go to this model; it is loaded first where it is not. Resolves when it is. */
  async choose(id: string): Promise<void> {
    try {
      await this.ready(id)
      model.info = await api.model(undefined, id)
      this.chosen = id
    } catch (cause) {
      notices.fail(cause, 'The model could not be loaded.')
    }
  }

  async unload(id: string): Promise<void> {
    try {
      await api.unloadModel(id)
      await this.refresh()
    } catch (cause) {
      notices.fail(cause, 'The model could not be unloaded.')
    }
  }

  private async load(id: string): Promise<void> {
    await api.loadModel(id)
    for (;;) {
      await this.refresh()
      const found = this.list.find((m) => m.id === id)
      if (found?.state === 'loaded') return
      if (found?.state !== 'loading') throw new Error(found?.error ?? 'It is not offered any more.')
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS / 2))
    }
  }
}

export const models = new Models()
