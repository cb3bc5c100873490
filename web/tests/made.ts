/** Small traces for tests. */
import type { NodeInfo, StepEvent, TraceInfo } from '../src/api/types'
import { Trace } from '../src/core/trace'

export function node(id: string, parent: string | null = null, at = 0, created = id): NodeInfo {
  return {
    id,
    session: 's',
    parent,
    at,
    title: '',
    excerpt: '',
    status: 'done',
    finish: 'length',
    form: 'plain',
    created,
    summary: {
      tokens: 0,
      prompt_tokens: 0,
      generated_tokens: 0,
      mean_surprisal: null,
      perplexity: null,
      bits_per_byte: null,
      joint_logprob: null,
      mean_entropy: null,
      tokens_per_s: null,
    },
    own_tokens: 0,
    own_logprob: null,
    own_surprisal: null,
    turn_logprob: null,
    note: '',
    starred: false,
    model: 'made',
    model_digest: 'sha256:made',
  }
}

export const base64 = (bytes: Uint8Array): string =>
  btoa(String.fromCharCode(...bytes))

const utf8 = new TextEncoder()

export type Part = string | number[] | { label: string }

export const bytesOf = (part: Part): Uint8Array =>
  typeof part === 'string'
    ? utf8.encode(part)
    : Array.isArray(part)
      ? Uint8Array.from(part)
      : new Uint8Array(0)

/** A step with one token per part: text, bytes, or a special by its label. */
export function step(start: number, parts: Part[], more: Partial<StepEvent> = {}): StepEvent {
  return {
    type: 'step',
    start,
    ids: parts.map((_, i) => start + i + 100),
    bytes: parts.map((p) => base64(bytesOf(p))),
    specials: parts.flatMap((p, i) =>
      typeof p === 'object' && !Array.isArray(p) ? [{ index: start + i, label: p.label }] : [],
    ),
    prompt: false,
    columns: {},
    alternative_ids: [],
    alternative_logprobs: [],
    pieces: [],
    ...more,
  }
}

export function trace(parts: Part[]): Trace {
  const t = new Trace(node('t'))
  t.append(step(0, parts))
  return t
}

export function info(parts: Part[], more: Partial<TraceInfo> = {}): TraceInfo {
  const offsets = [0]
  const data: number[] = []
  for (const p of parts) {
    data.push(...bytesOf(p))
    offsets.push(data.length)
  }
  return {
    node: node('t'),
    n_prompt: 0,
    language: 'python',
    ids: parts.map((_, i) => i),
    offsets,
    data: base64(Uint8Array.from(data)),
    specials: [],
    columns: [],
    qualities: [],
    k: 0,
    pieces: [],
    attention: 'none',
    attention_first: 0,
    attention_count: 0,
    origin: {},
    ...more,
  }
}

/** A generator of numbers 0..1 that repeats: the same seed, the same test. */
export function random(seed: number): () => number {
  let a = seed
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
