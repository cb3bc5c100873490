/** Attention of the selected token: which way, which layer and head, and the weights over the code. */
import { api } from '../api/client'
import { Lru } from '../core/lru'
import { littleFloats } from '../core/trace'
import { pointed, reduced, type Pick, type Weights } from '../core/attention'
import { focus } from './focus.svelte'

export type Direction = 'from' | 'to'

const BUDGET = 128 * 2 ** 20 // one token's weights are 31 MB at 10,000 tokens
const SETTLE_MS = 40 // while arrows run over tokens, do not ask for each

class Attention {
  on = $state(false)
  /** `from`: what the token looked at when it was chosen. `to`: which later tokens looked at it. */
  direction = $state<Direction>('from')
  layer = $state<Pick>('mean')
  head = $state<Pick>('mean')
  withoutFirst = $state(true)
  weights = $state.raw<Weights | null>(null)
  private backward = $state.raw<Float32Array | null>(null)
  source = $state('')
  failure = $state<string | null>(null)
  private cache = new Lru<Weights | Float32Array>(BUDGET, (w) => (w instanceof Float32Array ? w : w.values).byteLength)

  /** Weight per token of the shown trace, NaN where there is none; null while there is nothing. */
  row: Float32Array | null = $derived.by(() => {
    const row =
      this.direction === 'from'
        ? this.weights && reduced(this.weights, this.layer, this.head)
        : this.backward
    if (!row || !this.withoutFirst) return row
    const kept = Float32Array.from(row)
    // From: the weight that went to the first token. To: nothing to remove but on the sink itself.
    if (this.direction === 'from' && kept.length > 0) kept[0] = 0
    return kept
  })

  /** The heaviest weight of the row: the upper end of its scale. */
  most: number = $derived(this.row ? this.row.reduce((m, v) => (v > m ? v : m), 0) : 0)

  /** For each layer and head, the heaviest weight past the first token. */
  map: Float32Array | null = $derived(this.weights && pointed(this.weights))

  /** Keep `weights` in step with what is selected. Call inside an effect; returns its clean-up. */
  follow(): (() => void) | undefined {
    const token = focus.token
    const shown = focus.shown
    const { direction, layer, head } = this
    if (!this.on || token === null || !shown || shown.trace.node.status === 'running') {
      this.weights = null
      this.backward = null
      return
    }
    const node = shown.trace.node.id
    const stop = new AbortController()
    const timer = setTimeout(() => {
      void this.fetch(node, token, direction, String(layer), String(head), stop.signal)
    }, SETTLE_MS)
    return () => {
      clearTimeout(timer)
      stop.abort()
    }
  }

  private async fetch(
    node: string,
    token: number,
    direction: Direction,
    layer: string,
    head: string,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      this.failure = null
      if (token > 0) {
        const weights = await this.weightsOf(node, token, signal)
        if (signal.aborted) return
        this.weights = weights
        this.source = weights.source
      } else this.weights = null
      if (direction === 'to') {
        const key = `${node} ${token} ${layer} ${head}`
        const known = this.cache.get(key) as Float32Array | undefined
        const row = known ?? (await this.toToken(node, token, layer, head, signal))
        this.cache.put(key, row)
        if (!signal.aborted) this.backward = row
      }
    } catch (cause) {
      if (signal.aborted) return
      this.weights = null
      this.backward = null
      this.failure = cause instanceof Error ? cause.message : String(cause)
    }
  }

  /** What token `token` looked at, by every layer and head; kept. Rejects with what failed. */
  async weightsOf(node: string, token: number, signal: AbortSignal): Promise<Weights> {
    const key = `${node} ${token}`
    const known = this.cache.get(key) as Weights | undefined
    const weights = known ?? (await this.forward(node, token, signal))
    this.cache.put(key, weights)
    return weights
  }

  private async forward(node: string, token: number, signal: AbortSignal): Promise<Weights> {
    const { buffer, headers } = await api.attention(node, token, signal)
    const shape = (headers.get('x-attention-shape') ?? '').split(',').map(Number)
    const [layers, heads, length] = shape
    if (shape.length !== 3 || layers * heads * length * 4 !== buffer.byteLength) {
      throw new RangeError('The attention came in another shape than announced.')
    }
    const values = littleFloats(buffer, 0, layers * heads * length)
    return { layers, heads, length, values, source: headers.get('x-attention-source') ?? '' }
  }

  private async toToken(
    node: string,
    token: number,
    layer: string,
    head: string,
    signal: AbortSignal,
  ): Promise<Float32Array> {
    const { buffer } = await api.attended(node, token, layer, head, signal)
    return littleFloats(buffer, 0, buffer.byteLength / 4)
  }
}

export const attention = new Attention()
