import { describe, expect, it } from 'vitest'
import type { Entry, Plan, Way } from '../src/api/library'
import type { ModelState } from '../src/api/types'
import { family, isLoaded, memory, most, segments, sorted, standing } from '../src/core/library'

const entry = (part: Partial<Entry>): Entry => ({
  address: 'a', name: 'a', kind: 'folder', form: 'safetensors', offer: 'a', get: null, architecture: '',
  parameters: null, bytes: 0, context: null, number: '', licence: '', digest: null, able: null,
  way: 'float32', need: null, fits: null, why: '', reason: null, ...part,
}) // prettier-ignore
const offer = (part: Partial<ModelState>): ModelState => ({
  id: 'a', name: 'a', state: 'unloaded', bytes: null, digest: null, error: null, address: 'a',
  dtype: null, max_memory: null, taken: null, in_use: false, run: null, ...part,
}) // prettier-ignore
const way = (part: Partial<Way>): Way => ({
  way: 'float32', base: 0, weights: 0, packed: 0, cache: 0, work: 0, total: 0, fits: true, why: '',
  dtype: 'float32', max_memory: null, ...part,
}) // prettier-ignore
const plan = (free: number, ...totals: number[]): Plan => ({
  name: '', context: 1, free, ceiling: null, chosen: null, why: '', seconds: null,
  choices: totals.map((total) => way({ total })),
}) // prettier-ignore

describe('where a model stands', () => {
  it('goes by what the server says of it, then by what can be done', () => {
    expect(standing(entry({}), offer({ state: 'loaded' }), 'a')).toBe('in use')
    expect(standing(entry({}), offer({ state: 'loaded' }), 'b')).toBe('loaded')
    expect(standing(entry({ reason: 'broken' }), offer({ state: 'loading' }), null)).toBe('loading')
    expect(standing(entry({ get: 'x', offer: null }), null, null)).toBe('to fetch')
    expect(standing(entry({ reason: 'broken' }), offer({}), null)).toBe('no')
    expect(standing(entry({ offer: null }), null, null)).toBe('no')
    expect(standing(entry({}), offer({ state: 'failed' }), null)).toBe('ready')
  })
})

describe('the table', () => {
  it('is ordered by a figure, what has none last either way, ties by name', () => {
    const all = [
      entry({ name: 'b', parameters: 5 }), entry({ name: 'none' }), entry({ name: 'a', parameters: 5 }),
      entry({ name: 'z', parameters: 1 }),
    ] // prettier-ignore
    expect(sorted(all, 'parameters', false).map((e) => e.name)).toEqual(['z', 'a', 'b', 'none'])
    expect(sorted(all, 'parameters', true).map((e) => e.name)).toEqual(['a', 'b', 'z', 'none'])
    expect(all[0].name).toBe('b')
  })
  it('names families and sizes as a reader compares them', () => {
    expect(['LlamaForCausalLM', 'GPT2LMHeadModel', 'llama', ''].map(family)).toEqual(['Llama', 'GPT2', 'llama', '–'])
    expect([null, 11_090_000, 1_770_000_000, 21_140_000_000].map(memory)).toEqual(['–', '11.1 MB', '1.77 GB', '21.1 GB'])
  })
})

describe('a plan', () => {
  it('is drawn on a scale that holds what is free, unless that hides the parts', () => {
    expect(most(plan(250, 100, 40))).toBe(250)
    expect(most(plan(301, 100, 40))).toBe(100)
    expect(most(plan(50, 100))).toBe(100)
  })
  it('shows the parts that are there, in one order', () => {
    const parts = segments(way({ work: 1, weights: 3, base: 2 }))
    expect(parts).toEqual([{ part: 'base', bytes: 2 }, { part: 'weights', bytes: 3 }, { part: 'work', bytes: 1 }])
  })
  it('knows the form that is loaded', () => {
    expect(isLoaded(way({}), offer({ state: 'loaded', dtype: 'float32' }))).toBe(true)
    expect(isLoaded(way({ dtype: 'int8' }), offer({ state: 'loaded', dtype: 'float32' }))).toBe(false)
    expect(isLoaded(way({ way: 'gguf', dtype: null }), offer({ state: 'loaded', dtype: 'Q4_1' }))).toBe(true)
    expect(isLoaded(way({ way: 'disk', dtype: null }), offer({ state: 'loaded', dtype: 'float32' }))).toBe(false)
    expect(isLoaded(way({}), offer({ dtype: 'float32' }))).toBe(false)
  })
})
