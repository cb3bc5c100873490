import { describe, expect, it } from 'vitest'
import { eventsOf } from '../src/api/stream'
import type { FeedEvent } from '../src/api/types'

function body(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  let at = 0
  return new ReadableStream({
    pull(c) {
      if (at >= bytes.length) return c.close()
      c.enqueue(bytes.slice(at, (at += size)))
    },
  })
}

async function all(stream: ReadableStream<Uint8Array>): Promise<[string, FeedEvent][]> {
  const got: [string, FeedEvent][] = []
  for await (const { id, message } of eventsOf(stream)) got.push([id, message])
  return got
}

describe('a streaming answer', () => {
  const message = { run: 'r', node: 'n', kind: 'generate', event: { type: 'error', code: 'é', message: '🙂 one' } }
  const data = JSON.stringify(message)
  const text = `data: {"type":"hello","jobs":[]}\n\n: ping\n\nid: e-1\ndata: ${data}\n\nid: e-2\r\ndata: ${data}\r\n\r\n`
  const bytes = new TextEncoder().encode(text)
  const expected = [
    ['', { type: 'hello', jobs: [] }],
    ['e-1', message],
    ['e-2', message],
  ]

  it.each([1, 2, 3, 7, 4096])('may be cut inside a character (%i bytes at a time)', async (size) => {
    expect(await all(body(bytes, size))).toEqual(expected)
  })

  it('does not give an event that breaks off', async () => {
    expect(await all(body(bytes.slice(0, bytes.length - 3), 50))).toEqual(expected.slice(0, 2))
  })

  it('is cancelled when nobody reads on', async () => {
    let cancelled = false
    const endless = new ReadableStream<Uint8Array>({
      pull: (c) => c.enqueue(bytes),
      cancel: () => {
        cancelled = true
      },
    })
    for await (const e of eventsOf(endless)) {
      void e
      break
    }
    expect(cancelled).toBe(true)
  })
})
