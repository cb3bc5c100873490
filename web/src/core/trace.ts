/**
 * A trace as the page holds it: a struct of arrays that can grow while the model decodes.
 *
 * Index rule of the house: column value t describes token t given the tokens before it. The bytes
 * of the tokens, concatenated, are the text; a special token has a label and no bytes.
 */
import type { NodeInfo, StepEvent, TraceInfo } from '../api/types'
import { fromBase64, toText } from './bytes'
import { shown, shownBytes } from './visible'

export interface Alternative {
  id: number
  logprob: number
}

/** The bytes of an id. They come as base64 and are decoded when first wanted: there are thousands. */
class Spelling {
  private decoded: Uint8Array | null = null

  constructor(
    private readonly base64: string,
    readonly label: string | null,
  ) {}

  get bytes(): Uint8Array {
    return (this.decoded ??= fromBase64(this.base64))
  }
}

const NONE = -1

export class Trace {
  length = 0
  nPrompt = 0
  language = ''
  k = 0
  ids: Int32Array = new Int32Array(64)
  offsets: Int32Array = new Int32Array(65)
  data: Uint8Array = new Uint8Array(256)
  specials = new Map<number, string>()
  private spellings = new Map<number, Spelling>()
  qualities = new Map<string, 'exact' | 'bound' | 'estimate'>()
  attention: 'none' | 'top' | 'full' = 'none'
  attentionFirst = 0
  attentionCount = 0
  origin: Record<string, unknown> = {}
  /** What its columns that were measured on request came from; null where there are none. */
  worn: unknown = null
  hasAlternatives = false
  /** Whether given tokens still belong to the prompt; those put into a continuation do not. */
  private inPrompt = true
  private values = new Map<string, Float32Array>()
  private alternativeIds: Int32Array = new Int32Array(0)
  private alternativeLogprobs: Float32Array = new Float32Array(0)

  constructor(public node: NodeInfo) {}

  /** All but the numbers, which come by `setColumns` and `setAlternatives`. */
  static of(info: TraceInfo): Trace {
    const trace = new Trace(info.node)
    trace.length = info.ids.length
    trace.ids = Int32Array.from(info.ids)
    trace.offsets = Int32Array.from(info.offsets)
    trace.data = fromBase64(info.data)
    trace.k = info.k
    trace.setInfo(info)
    trace.inPrompt = trace.nPrompt === trace.length
    for (const s of info.specials) trace.specials.set(s.index, s.label)
    return trace
  }

  /** What the server tells about a trace besides tokens and numbers. */
  setInfo(info: TraceInfo): void {
    this.node = info.node
    this.nPrompt = info.n_prompt
    this.language = info.language
    this.attention = info.attention
    this.attentionFirst = info.attention_first
    this.attentionCount = info.attention_count
    this.origin = info.origin as Record<string, unknown>
    info.columns.forEach((name, i) => this.qualities.set(name, info.qualities[i]))
    for (const p of info.pieces) {
      this.spellings.set(p.id, new Spelling(p.bytes, p.label))
    }
  }

  /** A branch of `parent` that shares its first `shared` tokens; a copy, so both may live on. */
  static branchOf(parent: Trace, node: NodeInfo, shared: number): Trace {
    const trace = new Trace(node)
    const n = Math.min(shared, parent.length)
    const bytes = parent.offsets[n]
    trace.length = n
    trace.nPrompt = Math.min(parent.nPrompt, n)
    trace.inPrompt = n < parent.nPrompt
    trace.language = parent.language
    trace.k = parent.k
    trace.ids = parent.ids.slice(0, n)
    trace.offsets = parent.offsets.slice(0, n + 1)
    trace.data = parent.data.slice(0, bytes)
    for (const [i, label] of parent.specials) if (i < n) trace.specials.set(i, label)
    trace.spellings = new Map(parent.spellings)
    trace.qualities = new Map(parent.qualities)
    for (const [name, v] of parent.values) trace.values.set(name, v.slice(0, n))
    trace.alternativeIds = parent.alternativeIds.slice(0, n * parent.k)
    trace.alternativeLogprobs = parent.alternativeLogprobs.slice(0, n * parent.k)
    trace.hasAlternatives = parent.hasAlternatives
    return trace
  }

  /** Octets of the columns route: T float32 per name, in the order of `names`. */
  setColumns(names: string[], buffer: ArrayBuffer): void {
    const T = this.length
    if (buffer.byteLength !== names.length * T * 4) {
      throw new RangeError(`columns: ${buffer.byteLength} bytes for ${names.length} x ${T}`)
    }
    names.forEach((name, i) => this.values.set(name, littleFloats(buffer, i * T * 4, T)))
  }

  /** Octets of the alternatives route: int32 (T, K) ids, then float32 (T, K) logprobs. */
  setAlternatives(buffer: ArrayBuffer): void {
    const n = this.length * this.k
    if (buffer.byteLength !== n * 8) {
      throw new RangeError(`alternatives: ${buffer.byteLength} bytes for ${n} pairs`)
    }
    this.alternativeIds = littleInts(buffer, 0, n)
    this.alternativeLogprobs = littleFloats(buffer, n * 4, n)
    this.hasAlternatives = true
  }

  /**
   * Tokens of one stream event. Steps come in order and without gaps; tokens that are here already
   * (a line that was joined again from the start) are passed over.
   */
  append(whole: StepEvent): void {
    const known = this.length - whole.start
    if (known > 0 && known >= whole.ids.length) return
    const step = known > 0 ? after(whole, known) : whole
    if (step.start !== this.length) {
      throw new RangeError(`step starts at ${step.start}, expected ${this.length}`)
    }
    const n = step.ids.length
    const before = this.length
    const end = before + n
    this.ids = grown(this.ids, end)
    this.offsets = grown(this.offsets, end + 1)
    for (let i = 0; i < n; i++) {
      const bytes = fromBase64(step.bytes[i])
      const from = this.offsets[before + i]
      this.data = grown(this.data, from + bytes.length)
      this.data.set(bytes, from)
      this.ids[before + i] = step.ids[i]
      this.offsets[before + i + 1] = from + bytes.length
      this.spellings.set(step.ids[i], new Spelling(step.bytes[i], null))
    }
    for (const s of step.specials) {
      this.specials.set(s.index, s.label)
      const id = step.ids[s.index - before]
      if (id !== undefined) this.spellings.set(id, new Spelling('', s.label))
    }
    for (const p of step.pieces) {
      this.spellings.set(p.id, new Spelling(p.bytes, p.label))
    }
    this.appendColumns(step, before, end)
    this.appendAlternatives(step, before, end)
    this.length = end
    if (step.prompt && this.inPrompt) this.nPrompt = end
  }

  private appendColumns(step: StepEvent, before: number, after: number): void {
    for (const name of Object.keys(step.columns)) {
      if (!this.values.has(name)) this.values.set(name, new Float32Array(before).fill(NaN))
    }
    for (const [name, old] of this.values) {
      const column = grown(old, after)
      const given = step.columns[name]
      for (let i = before; i < after; i++) column[i] = given?.[i - before] ?? NaN
      this.values.set(name, column)
    }
  }

  private appendAlternatives(step: StepEvent, before: number, after: number): void {
    const k = step.alternative_ids.reduce((most, row) => Math.max(most, row.length), 0)
    if (k > this.k) this.widen(k, before)
    if (this.k === 0) return
    this.hasAlternatives = true
    const K = this.k
    this.alternativeIds = grown(this.alternativeIds, after * K)
    this.alternativeLogprobs = grown(this.alternativeLogprobs, after * K)
    this.alternativeIds.fill(NONE, before * K, after * K)
    step.alternative_ids.forEach((row, i) => {
      const at = (before + i) * K
      row.forEach((id, j) => {
        this.alternativeIds[at + j] = id
        this.alternativeLogprobs[at + j] = step.alternative_logprobs[i]?.[j] ?? NaN
      })
    })
  }

  /** More alternatives a token than so far (a branch with other settings): rows get longer. */
  private widen(k: number, rows: number): void {
    const ids = new Int32Array(rows * k).fill(NONE)
    const logprobs = new Float32Array(rows * k)
    for (let t = 0; t < rows; t++) {
      for (let j = 0; j < this.k; j++) {
        ids[t * k + j] = this.alternativeIds[t * this.k + j]
        logprobs[t * k + j] = this.alternativeLogprobs[t * this.k + j]
      }
    }
    this.alternativeIds = ids
    this.alternativeLogprobs = logprobs
    this.k = k
  }

  /** A column that was measured later: numbers from token `at` on, undefined before and after. */
  wear(name: string, at: number, numbers: readonly (number | null)[]): void {
    const column = new Float32Array(this.length).fill(NaN)
    numbers.forEach((v, i) => {
      if (v !== null && at + i < this.length) column[at + i] = v
    })
    this.values.set(name, column)
    this.qualities.set(name, 'estimate')
  }

  get columnNames(): string[] {
    return [...this.values.keys()]
  }

  /** float32 (T,), NaN where undefined; null if this trace has no such column. */
  column(name: string): Float32Array | null {
    const values = this.values.get(name)
    return values ? values.subarray(0, this.length) : null
  }

  value(name: string, t: number): number {
    return t < this.length ? (this.values.get(name)?.[t] ?? NaN) : NaN
  }

  bytes(t: number): Uint8Array {
    return this.data.subarray(this.offsets[t], this.offsets[t + 1])
  }

  /** A token as text; special ones by their label. */
  text(t: number): string {
    return this.specials.get(t) ?? toText(this.bytes(t))
  }

  /** A token on one line, with nothing hidden: what a reader is shown. */
  shown(t: number, limit = 60): string {
    const label = this.specials.get(t)
    return label === undefined ? shownBytes(this.bytes(t), limit) : shown(label, limit)
  }

  /** Text of tokens from..to (special ones have none). */
  span(from: number, to: number): string {
    return toText(this.data.subarray(this.offsets[from], this.offsets[to]))
  }

  /** One line of text from token t on: what a branch that differs there looks like. */
  excerpt(t: number): string {
    const lines = this.span(t, Math.min(this.length, t + 24)).split('\n')
    return lines.find((line) => line.trim() !== '') ?? lines[0]
  }

  alternatives(t: number): Alternative[] {
    const out: Alternative[] = []
    if (!this.hasAlternatives || t >= this.length) return out
    for (let j = t * this.k; j < (t + 1) * this.k; j++) {
      const id = this.alternativeIds[j]
      if (id !== NONE) out.push({ id, logprob: this.alternativeLogprobs[j] })
    }
    return out
  }

  /** How an id is spelt, as far as this trace knows. */
  spelling(id: number): string {
    const s = this.spellings.get(id)
    return s ? (s.label ?? toText(s.bytes)) : `#${id}`
  }

  /** The same on one line, with nothing hidden. */
  shownId(id: number, limit = 60): string {
    const s = this.spellings.get(id)
    if (!s) return `#${id}`
    return s.label === null ? shownBytes(s.bytes, limit) : shown(s.label, limit)
  }

  /** About how many bytes it takes: what a cache counts. */
  get bytesHeld(): number {
    const arrays = [this.ids, this.offsets, this.data, this.alternativeIds, this.alternativeLogprobs]
    const columns = [...this.values.values()]
    return [...arrays, ...columns].reduce((sum, a) => sum + a.byteLength, 0) + 64 * this.spellings.size
  }

  isSpecial(id: number): boolean {
    return (this.spellings.get(id)?.label ?? null) !== null
  }
}

/** A step without its first tokens. */
function after(step: StepEvent, known: number): StepEvent {
  const columns = Object.entries(step.columns).map(([name, v]) => [name, v.slice(known)] as const)
  return {
    ...step,
    start: step.start + known,
    ids: step.ids.slice(known),
    bytes: step.bytes.slice(known),
    specials: step.specials.filter((s) => s.index >= step.start + known),
    columns: Object.fromEntries(columns),
    alternative_ids: step.alternative_ids.slice(known),
    alternative_logprobs: step.alternative_logprobs.slice(known),
  }
}

function grown<A extends Int32Array | Float32Array | Uint8Array>(a: A, n: number): A {
  if (n <= a.length) return a
  const Kind = a.constructor as new (n: number) => A
  const b = new Kind(Math.max(n, a.length * 2, 64))
  b.set(a)
  return b
}

const LITTLE = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1

export function littleFloats(buffer: ArrayBuffer, at: number, n: number): Float32Array {
  if (LITTLE) return new Float32Array(buffer.slice(at, at + n * 4))
  const view = new DataView(buffer, at)
  return Float32Array.from({ length: n }, (_, i) => view.getFloat32(i * 4, true))
}

export function littleInts(buffer: ArrayBuffer, at: number, n: number): Int32Array {
  if (LITTLE) return new Int32Array(buffer.slice(at, at + n * 4))
  const view = new DataView(buffer, at)
  return Int32Array.from({ length: n }, (_, i) => view.getInt32(i * 4, true))
}
