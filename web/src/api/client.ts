/** One function per route. Paths are relative, so that the page may live under any prefix. */
import { ApiError, errorFrom, Unreachable } from './errors'
import { eventsOf } from './stream'
import type {
  ForkRequest,
  GalleryItem,
  GenerateRequest,
  ModelInfo,
  NodeInfo,
  ScoreRequest,
  Session,
  SessionInfo,
  StreamEvent,
  TraceInfo,
} from './types'

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE'

/** Called with false when the server stops answering, with true when it answers again. */
let onReach: (reached: boolean) => void = () => undefined
export function watchReach(f: (reached: boolean) => void): void {
  onReach = f
}

async function send(method: Method, path: string, body?: unknown, signal?: AbortSignal) {
  const init: RequestInit = { method, credentials: 'same-origin', cache: 'no-store' }
  if (signal) init.signal = signal
  if (body !== undefined) {
    init.body = JSON.stringify(body)
    init.headers = { 'content-type': 'application/json' }
  }
  let response: Response
  try {
    response = await fetch(`api/${path}`, init)
  } catch (cause) {
    if (signal?.aborted) throw cause
    onReach(false)
    throw new Unreachable(cause)
  }
  onReach(true)
  if (!response.ok) throw await errorFrom(response)
  return response
}

async function json<T>(method: Method, path: string, body?: unknown, signal?: AbortSignal) {
  return (await (await send(method, path, body, signal)).json()) as T
}

export interface Octets {
  buffer: ArrayBuffer
  headers: Headers
}

async function octets(path: string, signal?: AbortSignal): Promise<Octets> {
  const response = await send('GET', path, undefined, signal)
  return { buffer: await response.arrayBuffer(), headers: response.headers }
}

async function* stream(path: string, body: unknown, signal?: AbortSignal) {
  const response = await send('POST', path, body, signal)
  if (!response.body) throw new Unreachable()
  let ended = false
  try {
    for await (const event of eventsOf(response.body)) {
      ended = event.type === 'end' || event.type === 'error'
      yield event
    }
  } catch (cause) {
    if (signal?.aborted || cause instanceof ApiError) throw cause
    onReach(false)
    throw new Unreachable(cause)
  }
  if (!ended) throw new Unreachable()
}

const id = encodeURIComponent

export const api = {
  model: (signal?: AbortSignal) => json<ModelInfo>('GET', 'model', undefined, signal),
  gallery: () => json<GalleryItem[]>('GET', 'gallery'),
  sessions: () => json<SessionInfo[]>('GET', 'sessions'),
  newSession: (title = '') => json<Session>('POST', 'sessions', { title }),
  session: (session: string) => json<Session>('GET', `sessions/${id(session)}`),
  renameSession: (session: string, title: string) =>
    json<SessionInfo>('PATCH', `sessions/${id(session)}`, { title }),
  deleteSession: (session: string) => send('DELETE', `sessions/${id(session)}`),
  restoreSession: (session: string) => json<SessionInfo>('POST', `sessions/${id(session)}/restore`),
  exportAddress: (session: string, format: 'json' | 'csv') =>
    `api/sessions/${id(session)}/export?format=${format}`,
  trace: (node: string, signal?: AbortSignal) =>
    json<TraceInfo>('GET', `nodes/${id(node)}`, undefined, signal),
  renameNode: (node: string, title: string) =>
    json<NodeInfo>('PATCH', `nodes/${id(node)}`, { title }),
  deleteNode: (node: string) => send('DELETE', `nodes/${id(node)}`),
  restoreNode: (node: string) => json<Session>('POST', `nodes/${id(node)}/restore`),
  columns: (node: string, names: string[], signal?: AbortSignal) =>
    octets(`nodes/${id(node)}/columns?names=${names.map(id).join(',')}`, signal),
  alternatives: (node: string, signal?: AbortSignal) =>
    octets(`nodes/${id(node)}/alternatives`, signal),
  attention: (node: string, t: number, signal?: AbortSignal) =>
    octets(`nodes/${id(node)}/attention/${t}`, signal),
  attended: (node: string, t: number, layer: string, head: string, signal?: AbortSignal) =>
    octets(`nodes/${id(node)}/attended/${t}?layer=${id(layer)}&head=${id(head)}`, signal),
  cancel: (run: string) => send('POST', `runs/${id(run)}/cancel`),
  generate: (session: string, body: GenerateRequest, signal?: AbortSignal) =>
    stream(`sessions/${id(session)}/generate`, body, signal) as AsyncGenerator<StreamEvent>,
  score: (session: string, body: ScoreRequest, signal?: AbortSignal) =>
    stream(`sessions/${id(session)}/score`, body, signal) as AsyncGenerator<StreamEvent>,
  fork: (node: string, body: ForkRequest, signal?: AbortSignal) =>
    stream(`nodes/${id(node)}/fork`, body, signal) as AsyncGenerator<StreamEvent>,
}

/** For routes that live in files of their own (api/explain.ts). */
export { json as askJson, octets as askOctets, stream as askStream }
