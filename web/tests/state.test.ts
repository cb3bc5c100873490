/** What the page remembers and knows: its state, without any part of the page that shows it. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Settings } from '../src/api/types'
import { keep, recall } from '../src/state/keep'
import { info, node, step, trace } from './made'

/** Storage of a browser, as far as the page uses it. */
class Memory {
  held = new Map<string, string>()
  full = false
  getItem = (name: string) => this.held.get(name) ?? null
  setItem = (name: string, text: string) => {
    if (this.full) throw new DOMException('full', 'QuotaExceededError')
    this.held.set(name, text)
  }
}

vi.setConfig({ testTimeout: 20_000 }) // the first import of a module compiles it

let memory: Memory
beforeEach(() => {
  memory = new Memory()
  vi.stubGlobal('localStorage', memory)
  vi.resetModules() // each test gets state of its own
})
afterEach(() => {
  vi.unstubAllGlobals()
  vi.useRealTimers()
})

const later = () => new Promise((done) => setTimeout(done))

describe('what is kept between visits', () => {
  test('values come back, and a browser without memory only forgets', () => {
    keep('a', { b: [1] })
    expect(recall('a', null)).toEqual({ b: [1] })
    expect(recall('other', 7)).toBe(7)
    memory.held.set('tokenscope.bad', '{"cut')
    expect(recall('bad', 'otherwise')).toBe('otherwise')
    memory.full = true
    expect(() => keep('a', 2)).not.toThrow()
    vi.stubGlobal('localStorage', undefined)
    expect(recall('a', 3)).toBe(3)
    expect(() => keep('a', 4)).not.toThrow()
  })
})

describe('settings of decoding', () => {
  test('are kept, sent as a plain copy, and summed up in a few words', async () => {
    const { decoding, DEFAULTS } = await import('../src/state/settings.svelte')
    expect(decoding.request).toEqual(DEFAULTS)
    expect(decoding.summary).toBe('greedy · ≤ 128 tokens')
    decoding.set('temperature', 0.5)
    decoding.set('top_k', 40)
    decoding.set('repetition_penalty', 1.1)
    expect(decoding.summary).toBe('T 0.5 · top-k 40 · seed 0 · penalty 1.1 · ≤ 128 tokens')
    expect(recall<Partial<Settings>>('settings', {}).top_k).toBe(40)
    const sent = decoding.request
    decoding.set('top_k', 1)
    expect(sent.top_k).toBe(40)
    vi.resetModules()
    const again = await import('../src/state/settings.svelte')
    expect(again.decoding.values.temperature).toBe(0.5)
    again.decoding.reset()
    expect(again.decoding.request).toEqual(again.DEFAULTS)
    expect(recall<Partial<Settings>>('settings', {}).temperature).toBe(0)
  })

  test('of an older page gain what is new', async () => {
    keep('settings', { temperature: 2 })
    const { decoding, DEFAULTS } = await import('../src/state/settings.svelte')
    expect(decoding.request).toEqual({ ...DEFAULTS, temperature: 2 })
  })
})

describe('how things are shown', () => {
  const spec = (name: string, lo: number | null, hi: number | null) => ({
    name, title: name, unit: '', formula: '', source: '', lo, hi, better: 'low', scale: 'linear',
  }) // prettier-ignore

  async function look() {
    const { look } = await import('../src/state/look.svelte')
    const { model } = await import('../src/state/model.svelte')
    model.info = { columns: [spec('open', 0, null), spec('closed', 0, 1)] } as never
    return look
  }

  test('a range is fixed by the first trace and then kept, so that branches compare', async () => {
    const l = await look()
    l.fixRange('open', Float32Array.of(1, 3), false)
    const first = l.range('open')
    expect(first.hi).toBeGreaterThanOrEqual(3)
    l.fixRange('open', Float32Array.of(1, 300), false)
    expect(l.range('open')).toEqual(first)
    l.fixRange('open', Float32Array.of(1, 300), true) // still growing: an open end may rise
    expect(l.range('open').hi).toBeGreaterThanOrEqual(300)
    const grown = l.range('open')
    l.fixRange('open', Float32Array.of(1, 2), true) // and never falls
    expect(l.range('open')).toEqual(grown)
    l.fixRange('closed', Float32Array.of(0, 99), true)
    expect(l.range('closed')).toEqual({ lo: 0, hi: 1 })
  })

  test('a range set by hand wins until it is taken back', async () => {
    const l = await look()
    l.setRange('open', { lo: 2, hi: 4 })
    l.fixRange('open', Float32Array.of(0, 50), false)
    expect(l.range('open')).toEqual({ lo: 2, hi: 4 })
    l.setRange('open', null)
    expect(l.ranges).toEqual({})
    l.setRange('open', { lo: 2, hi: 4 })
    l.forgetRanges()
    expect(l.ranges).toEqual({})
  })

  test('the theme follows the system until one is chosen; panels toggle alone', async () => {
    keep('panels', { left: false })
    const l = await look()
    expect([l.choice, l.theme]).toEqual(['system', 'light'])
    l.nextTheme()
    expect([l.choice, l.theme]).toEqual(['dark', 'dark'])
    l.nextTheme()
    expect(l.theme).toBe('light')
    l.toggle('right')
    expect(l.panels).toEqual({ left: false, right: false, trend: true })
  })
})

describe('notices', () => {
  test('plain ones go by themselves, failures stay, and three are the most', async () => {
    vi.useFakeTimers()
    const { notices } = await import('../src/state/notices.svelte')
    notices.say('one')
    notices.fail(new Error('it broke'), 'Saving failed.')
    notices.say('two')
    notices.say('three')
    expect(notices.list.map((n) => n.text)).toHaveLength(3)
    notices.say('three')
    expect(notices.list.filter((n) => n.text === 'three')).toHaveLength(1)
    vi.advanceTimersByTime(60_000)
    expect(notices.list.map((n) => n.tone)).toEqual(['bad'])
    expect(notices.list[0]!.text).toMatch(/^Saving failed\. It broke/i)
    notices.drop(notices.list[0]!.id)
    expect(notices.list).toEqual([])
  })

  test('undo takes back the newest that can be, once', async () => {
    const { notices } = await import('../src/state/notices.svelte')
    const done: string[] = []
    notices.say('a', { label: 'Undo', run: () => done.push('a') })
    notices.say('b', { label: 'Undo', run: () => done.push('b') })
    notices.say('plain')
    expect(notices.undo()).toBe(true)
    expect(notices.undo()).toBe(true)
    expect(notices.undo()).toBe(false)
    expect(done).toEqual(['b', 'a'])
  })
})

describe('what the reader looks at', () => {
  test('selection, ranges and walking stay inside the trace', async () => {
    const { focus } = await import('../src/state/focus.svelte')
    const shown = trace(['a', 'b', 'c', 'd'])
    focus.present(shown, 9)
    expect([focus.stage, focus.token, focus.node]).toEqual(['trace', null, 't'])
    focus.select(2)
    focus.contrast = { id: 1, text: 'x' }
    focus.walk(1, true)
    expect(focus.contrast).toBeNull()
    expect(focus.range).toEqual({ first: 2, last: 3 })
    focus.walk(5)
    expect([focus.token, focus.range]).toEqual([3, null])
    focus.walk(-99)
    expect(focus.token).toBe(0)
    const before = focus.shown!.version
    focus.grew(shown)
    expect(focus.shown!.version).toBeGreaterThan(before)
    focus.compose()
    expect([focus.stage, focus.node, focus.token, focus.shown]).toEqual(['compose', null, null, null])
    focus.walk(1) // nothing is shown: nothing happens
    expect(focus.token).toBeNull()
  })

  test('an answer that was overtaken is not shown', async () => {
    const { focus } = await import('../src/state/focus.svelte')
    const answers = new Map<string, (r: Response) => void>()
    vi.stubGlobal('fetch', (path: string) => new Promise((give) => answers.set(path, give)))
    const answer = (id: string) => {
      const body = info(['x'], { node: node(id) })
      answers.get([...answers.keys()].find((p) => p.includes(`nodes/${id}`))!)!(Response.json(body))
    }
    const slow = focus.show('slow')
    await later()
    const fast = focus.show('fast')
    expect(focus.stage).toBe('loading')
    await later()
    answer('fast')
    await fast
    expect([focus.node, focus.shown?.trace.node.id]).toEqual(['fast', 'fast'])
    answer('slow')
    await slow
    expect([focus.node, focus.shown?.trace.node.id]).toEqual(['fast', 'fast'])
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('no line')))
    await focus.show('lost')
    expect([focus.stage, focus.shown]).toEqual(['failed', null])
    expect(focus.failure).toBeTruthy()
  })
})

describe('a run that waits for the disk', () => {
  test('says so until the next step', async () => {
    vi.stubGlobal('requestAnimationFrame', () => 1)
    let push: (event: object) => void = () => undefined
    const encoder = new TextEncoder()
    const body = new ReadableStream<Uint8Array>({
      start(line) {
        const say = (data: object) => line.enqueue(encoder.encode(`data: ${JSON.stringify(data)}\n\n`))
        say({ type: 'hello', jobs: [] })
        push = (event) => say({ run: 'r', node: 't', kind: 'generate', event })
      },
    })
    vi.stubGlobal('fetch', (path: string) =>
      Promise.resolve(path.includes('/events') ? new Response(body) : Response.json([])),
    )
    const { runs } = await import('../src/state/runs.svelte')
    await runs.enter('s')
    const soon = async (event: object) => {
      push(event)
      for (let i = 0; i < 5; i++) await later()
    }
    await soon({ type: 'start', run: 'r', node: node('t'), shared: 0, total: 9 })
    expect(runs.byNode.t.disk).toBeNull()
    await soon({ type: 'waiting', seconds: 2.5 })
    expect(runs.byNode.t.disk).toBe(2.5)
    await soon(step(0, ['a']))
    expect(runs.byNode.t.disk).toBeNull()
  })
})
