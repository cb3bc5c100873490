/** Whether the server answers. While it does not, the page stays readable and keeps asking. */
import { api, watchReach } from '../api/client'
import { ApiError } from '../api/errors'

const AGAIN_MS = [500, 1000, 2000, 4000]

class Reach {
  lost = $state(false)
  /** The server answers, but does not know this page (any more). */
  signedOut = $state(false)
  private tries = 0
  private timer: ReturnType<typeof setTimeout> | undefined
  private onBack: () => void = () => undefined

  /** `back` is called when the server answers again after a loss. */
  watch(back: () => void): void {
    this.onBack = back
    watchReach((reached) => (reached ? this.found() : this.lose()))
  }

  private lose(): void {
    if (!this.lost) {
      this.lost = true
      this.tries = 0
    }
    this.later()
  }

  private found(): void {
    if (!this.lost) return
    this.lost = false
    clearTimeout(this.timer)
    this.timer = undefined
    this.onBack()
  }

  private later(): void {
    if (this.timer !== undefined) return
    const wait = AGAIN_MS[Math.min(this.tries++, AGAIN_MS.length - 1)]
    this.timer = setTimeout(() => {
      this.timer = undefined
      void this.ask()
    }, wait)
  }

  async ask(): Promise<void> {
    try {
      await api.model()
      this.signedOut = false
    } catch (cause) {
      if (cause instanceof ApiError) this.signedOut = cause.signedOut
    }
  }
}

export const reach = new Reach()
