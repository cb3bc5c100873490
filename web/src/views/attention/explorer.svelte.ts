/** What the explorer shows: all heads small, one head large, the crosshair, what was searched. */
import { explainApi, type FoundHead, type MatrixKind } from '../../api/explain'
import { readSurvey, strongest, topOf, type Survey } from '../../core/explain'
import type { Weights } from '../../core/attention'
import { Lru } from '../../core/lru'
import { attention } from '../../state/attention.svelte'
import { littleFloats } from '../../core/trace'
import { why } from '../why/job.svelte'

export interface Matrix {
  values: Float32Array
  n: number
  most: number
  kind: MatrixKind
  source: string
}

const SIZE = 48
const BUDGET = 96 * 2 ** 20

class Explorer {
  survey = $state.raw<Survey | null>(null)
  matrix = $state.raw<Matrix | null>(null)
  layer = $state(0)
  head = $state<number | 'mean' | 'max'>(0)
  kind = $state<MatrixKind>('weights')
  statistic = $state('induction')
  found = $state.raw<FoundHead[] | null>(null)
  pattern = $state('')
  /** Crosshair: the query position (a row) and the key position (a column). */
  query = $state<number | null>(null)
  key = $state<number | null>(null)
  /** One head as a matrix, or every head of the selected token. */
  picture = $state<'matrix' | 'heads'>('matrix')
  /** Weights of every head for one token, its step: what it looked at when it was chosen. */
  heads = $state.raw<Weights | null>(null)
  /** The row of it that is pointed at, else that of the chosen head: it colours the code. */
  row = $state.raw<Float32Array | null>(null)
  headsFailure = $state<string | null>(null)
  loading = $state(false)
  failure = $state<string | null>(null)
  private chosen = false
  private node = ''
  private cache = new Lru<Matrix>(BUDGET, (m) => m.values.byteLength)

  async open(node: string, signal: AbortSignal): Promise<void> {
    if (this.node === node && this.survey) return
    this.node = node
    Object.assign(this, { survey: null, matrix: null, found: null, failure: null, query: null, key: null })
    this.cache.clear()
    try {
      await why.load()
      const { buffer, headers } = await explainApi.heads(node, SIZE, signal)
      if (signal.aborted) return
      const survey = readSurvey(buffer, headers, why.info?.statistics ?? [])
      // at first the head that copies most, the one most often worth a look; then the reader's own
      if (!this.chosen) Object.assign(this, strongest(survey, this.statistic))
      this.survey = survey
    } catch (cause) {
      if (!signal.aborted) {
        this.failure = cause instanceof Error ? cause.message : String(cause)
        this.node = ''
      } else this.node = ''
    }
  }

  async load(node: string, layer: number, head: string, kind: MatrixKind, signal: AbortSignal): Promise<void> {
    const name = kind === 'rollout' ? `${node} rollout` : `${node} ${layer} ${head} ${kind}`
    const known = this.cache.get(name)
    if (known) {
      this.matrix = known
      return
    }
    this.loading = true
    try {
      const { buffer, headers } = await explainApi.matrix(node, layer, head, kind, signal)
      const [rows, columns] = (headers.get('x-attention-shape') ?? '').split(',').map(Number)
      if (rows !== columns || rows * columns * 4 !== buffer.byteLength) {
        throw new RangeError('The matrix came in another shape than announced.')
      }
      const values = littleFloats(buffer, 0, rows * columns)
      const made = { values, n: rows, most: topOf(values), kind, source: headers.get('x-attention-source') ?? '' }
      this.cache.put(name, made)
      if (!signal.aborted) this.matrix = made
      this.failure = null
    } catch (cause) {
      if (!signal.aborted) this.failure = cause instanceof Error ? cause.message : String(cause)
    } finally {
      if (!signal.aborted) this.loading = false
    }
  }

  async loadHeads(node: string, token: number, signal: AbortSignal): Promise<void> {
    if (token === 0) return
    this.headsFailure = null
    try {
      const heads = await attention.weightsOf(node, token, signal)
      if (!signal.aborted) this.heads = heads
    } catch (cause) {
      if (!signal.aborted) this.headsFailure = cause instanceof Error ? cause.message : String(cause)
    }
  }

  /** Heads that show a pattern, or (pattern `edge`) that carry the crosshair's weight. */
  async search(node: string, pattern: string): Promise<void> {
    this.pattern = pattern
    this.found = null
    if (!pattern) return
    try {
      const edge = pattern === 'edge'
      this.found = await explainApi.find(node, pattern, edge ? this.query : null, edge ? [this.key ?? 0] : [])
    } catch (cause) {
      this.failure = cause instanceof Error ? cause.message : String(cause)
    }
  }

  pick(layer: number, head: number): void {
    this.chosen = true
    this.layer = layer
    this.head = head
    if (this.kind === 'rollout') this.kind = 'weights'
  }

  /** Weight of a key for a query; NaN where there is none. */
  at(query: number, key: number): number {
    const m = this.matrix
    return m && query < m.n && key < m.n ? m.values[query * m.n + key] : NaN
  }
}

export const explorer = new Explorer()
