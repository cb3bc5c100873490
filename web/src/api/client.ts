/** One function per route. Paths are relative, so that the page may live under any prefix. */
import { ApiError, errorFrom, Unreachable } from './errors'
import { eventsOf, type Received } from './stream'
import type {
  ColumnInfo,
  FeedEvent,
  ForkRequest,
  GalleryItem,
  GenerateRequest,
  HelloEvent,
  JobInfo,
  ModelInfo,
  ModelState,
  NodeInfo,
  NodeSaid,
  ScoreRequest,
  Session,
  SessionInfo,
  StorageInfo,
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
  if (body instanceof Blob) {
    init.body = body
    init.headers = { 'content-type': 'application/octet-stream' }
  } else if (body !== undefined) {
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

/** The events of the jobs of a session, from after event `seen` on. Throws when the line breaks. */
async function* events(
  session: string,
  seen: string,
  signal: AbortSignal,
): AsyncGenerator<Received> {
  const init: RequestInit = { credentials: 'same-origin', cache: 'no-store', signal }
  if (seen) init.headers = { 'last-event-id': seen }
  try {
    const response = await fetch(`api/events?session=${id(session)}`, init)
    if (!response.ok) throw await errorFrom(response)
    onReach(true)
    if (response.body) yield* eventsOf(response.body)
  } catch (cause) {
    if (!signal.aborted && !(cause instanceof ApiError)) onReach(false)
    throw cause
  }
}

const id = encodeURIComponent

export const api = {
  model: (signal?: AbortSignal, model?: string) =>
    json<ModelInfo>('GET', model ? `model?id=${id(model)}` : 'model', undefined, signal),
  everyColumn: () => json<ColumnInfo[]>('GET', 'columns'),
  models: () => json<ModelState[]>('GET', 'models'),
  loadModel: (model: string) => json<JobInfo>('POST', `models/${id(model)}/load`),
  unloadModel: (model: string) => send('POST', `models/${id(model)}/unload`),
  goOn: (node: string) => json<JobInfo>('POST', `nodes/${id(node)}/continue`),
  gallery: () => json<GalleryItem[]>('GET', 'gallery'),
  sessions: () => json<SessionInfo[]>('GET', 'sessions'),
  newSession: (title = '') => json<Session>('POST', 'sessions', { title }),
  session: (session: string) => json<Session>('GET', `sessions/${id(session)}`),
  renameSession: (session: string, title: string) =>
    json<SessionInfo>('PATCH', `sessions/${id(session)}`, { title }),
  deleteSession: (session: string) => send('DELETE', `sessions/${id(session)}`),
  restoreSession: (session: string) => json<SessionInfo>('POST', `sessions/${id(session)}/restore`),
  storage: () => json<StorageInfo>('GET', 'storage'),
  purge: () => json<StorageInfo>('POST', 'storage/purge'),
  importSession: (file: Blob) => json<Session>('POST', 'sessions/import', file),
  exportAddress: (session: string, format: 'json' | 'csv' | 'tscope') =>
    `api/sessions/${id(session)}/export?format=${format}`,
  trace: (node: string, signal?: AbortSignal) =>
    json<TraceInfo>('GET', `nodes/${id(node)}`, undefined, signal),
  annotateNode: (node: string, said: NodeSaid) =>
    json<NodeInfo>('PATCH', `nodes/${id(node)}`, said),
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
  events,
  /** The events of one job, from its beginning to its end. */
  eventsOf: async function* (run: string, signal: AbortSignal): AsyncGenerator<Exclude<FeedEvent, HelloEvent>> {
    const response = await send('GET', `events?run=${id(run)}`, undefined, signal)
    if (!response.body) return
    for await (const { message } of eventsOf(response.body)) if (!('type' in message)) yield message
  },
  /** Resolves when a job is over, however it ended. */
  ended: async (run: string): Promise<void> =>
    void (await (await send('GET', `events?run=${id(run)}`)).text()),
  jobs: () => json<JobInfo[]>('GET', 'runs'),
  cancel: (run: string) => send('POST', `runs/${id(run)}/cancel`),
  generate: (session: string, body: GenerateRequest) =>
    json<JobInfo>('POST', `sessions/${id(session)}/generate`, body),
  score: (session: string, body: ScoreRequest) =>
    json<JobInfo>('POST', `sessions/${id(session)}/score`, body),
  fork: (node: string, body: ForkRequest) => json<JobInfo>('POST', `nodes/${id(node)}/fork`, body),
}

/** The events of an answer of its own; ends when the answer ends. */
async function* stream(path: string, signal: AbortSignal): AsyncGenerator<Received> {
  const { body } = await send('GET', path, undefined, signal)
  if (body) yield* eventsOf(body)
}

/** For routes that live in files of their own (api/explain.ts). */
export { json as askJson, octets as askOctets, stream as askStream }
