/** How to decode: kept between visits. The defaults are greedy, so that a first look repeats. */
import type { Settings } from '../api/types'
import { keep, recall } from './keep'

export const DEFAULTS: Settings = {
  max_new_tokens: 128,
  temperature: 0,
  top_k: 0,
  top_p: 1,
  min_p: 0,
  repetition_penalty: 1,
  seed: 0,
  stop: [],
  alternatives: 10,
  attention: 'top',
  edits: [],
}

class Decoding {
  values = $state<Settings>({ ...DEFAULTS, ...recall<Partial<Settings>>('settings', {}) })

  /** What differs from the defaults, in a few words. */
  get summary(): string {
    const v = this.values
    const parts = [v.temperature === 0 ? 'greedy' : `T ${v.temperature}`]
    if (v.temperature > 0) {
      if (v.top_k > 0) parts.push(`top-k ${v.top_k}`)
      if (v.top_p < 1) parts.push(`top-p ${v.top_p}`)
      if (v.min_p > 0) parts.push(`min-p ${v.min_p}`)
      parts.push(`seed ${v.seed}`)
    }
    if (v.repetition_penalty !== 1) parts.push(`penalty ${v.repetition_penalty}`)
    if (v.edits.length > 0) parts.push(v.edits.length === 1 ? '1 edit' : `${v.edits.length} edits`)
    parts.push(`≤ ${v.max_new_tokens} tokens`)
    return parts.join(' · ')
  }

  set<K extends keyof Settings>(name: K, value: Settings[K]): void {
    this.values = { ...this.values, [name]: value }
    keep('settings', this.values)
  }

  reset(): void {
    this.values = { ...DEFAULTS }
    keep('settings', this.values)
  }

  /** A plain copy to send. */
  get request(): Settings {
    return $state.snapshot(this.values) as Settings
  }
}

export const decoding = new Decoding()
