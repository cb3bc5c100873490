/** Server-sent events over fetch: unlike EventSource it tells why a stream cannot be had. */
import { createParser } from 'eventsource-parser'
import type { FeedEvent } from './types'

export interface Received {
  /** Id of the event, to join again after it; "" for one that has none. */
  id: string
  message: FeedEvent
}

/** The events of an answer, in order. Ends when the body ends; what breaks off is not given. */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Received> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let arrived: Received[] = []
  const parser = createParser({
    onEvent: ({ id, data }) => arrived.push({ id: id ?? '', message: JSON.parse(data) as FeedEvent }),
  })
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      parser.feed(decoder.decode(value, { stream: true }))
      const now = arrived
      arrived = []
      yield* now
    }
  } finally {
    // Leaving early tells the server that this page watches no longer.
    await reader.cancel().catch(() => undefined)
  }
}
