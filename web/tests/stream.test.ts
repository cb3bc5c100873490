import { describe, expect, it } from 'vitest'
import { EventParser, eventsOf } from '../src/api/stream'
import { random } from './made'

describe('the event parser', () => {
  it('gives the data of finished events, whatever ends the lines', () => {
    const p = new EventParser()
    expect(p.push('data: a\n\ndata:b\r\n\r\ndata: c\r\rdata: d')).toEqual(['a', 'b', 'c'])
    expect(p.push('\n\n')).toEqual(['d'])
  })

  it('joins several data lines and passes over comments and other fields', () => {
    const p = new EventParser()
    expect(p.push(': ping\n\nevent: x\nid: 4\ndata: a\ndata: b\n\n')).toEqual(['a\nb'])
  })

  it('does not mind where the pieces are cut', () => {
    const whole = ': hi\r\n\r\ndata: {"x": "é€🙂"}\r\n\r\ndata: two\n\ndata: 3\r\n\r\n'
    const expected = ['{"x": "é€🙂"}', 'two', '3']
    const next = random(5)
    for (let round = 0; round < 200; round++) {
      const p = new EventParser()
      const got: string[] = []
      for (let at = 0; at < whole.length; ) {
        const n = 1 + Math.floor(next() * 6)
        got.push(...p.push(whole.slice(at, at + n)))
        at += n
      }
      expect(got).toEqual(expected)
    }
  })
})

function body(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  let at = 0
  return new ReadableStream({
    pull(c) {
      if (at >= bytes.length) return c.close()
      c.enqueue(bytes.slice(at, (at += size)))
    },
  })
}

describe('a streaming answer', () => {
  const event = { type: 'error', code: 'é', message: '🙂 one' }
  const bytes = new TextEncoder().encode(`data: ${JSON.stringify(event)}\n\n`.repeat(3))

  it.each([1, 2, 3, 7, 4096])('may be cut inside a character (%i bytes at a time)', async (size) => {
    const got = []
    for await (const e of eventsOf(body(bytes, size))) got.push(e)
    expect(got).toEqual([event, event, event])
  })

  it('throws when an event breaks off', async () => {
    const cut = bytes.slice(0, bytes.length - 12)
    await expect(
      (async () => {
        for await (const e of eventsOf(body(cut, 50))) void e
      })(),
    ).rejects.toThrow()
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
