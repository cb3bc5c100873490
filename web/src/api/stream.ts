/** Server-sent events over fetch, so that a POST can stream (EventSource can only GET). */
import type { StreamEvent } from './types'

/**
 * Takes text in pieces of any size and gives the `data` of every finished event.
 * Lines end with LF, CRLF or CR; comments and other fields are passed over.
 */
export class EventParser {
  private rest = ''
  private data: string[] = []

  push(text: string): string[] {
    this.rest += text
    const events: string[] = []
    let start = 0
    for (;;) {
      const end = this.lineEnd(start)
      if (end === null) break
      const line = this.rest.slice(start, end.at)
      start = end.next
      if (line !== '') this.field(line)
      else if (this.data.length > 0) {
        events.push(this.data.join('\n'))
        this.data = []
      }
    }
    this.rest = this.rest.slice(start)
    return events
  }

  private lineEnd(from: number): { at: number; next: number } | null {
    for (let i = from; i < this.rest.length; i++) {
      const c = this.rest.charCodeAt(i)
      if (c === 10) return { at: i, next: i + 1 }
      if (c === 13) {
        if (i + 1 === this.rest.length) return null // it may be the first half of CRLF
        return { at: i, next: this.rest.charCodeAt(i + 1) === 10 ? i + 2 : i + 1 }
      }
    }
    return null
  }

  private field(line: string): void {
    if (!line.startsWith('data:')) return
    this.data.push(line.startsWith('data: ') ? line.slice(6) : line.slice(5))
  }
}

/** Events of a streaming answer, in order. Ends when the body ends; throws when it breaks off. */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<StreamEvent> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  const parser = new EventParser()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      const text = done ? decoder.decode() + '\n\n' : decoder.decode(value, { stream: true })
      for (const data of parser.push(text)) yield JSON.parse(data) as StreamEvent
      if (done) return
    }
  } finally {
    // Leaving early tells the server that nobody listens any more; it then frees the model.
    await reader.cancel().catch(() => undefined)
  }
}
