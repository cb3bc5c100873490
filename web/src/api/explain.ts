/** Explanations and the attention explorer: one function per route. */
import { askJson, askOctets } from './client'
import type { ExplainMessage, JobInfo, PatchMessage } from './types'
import type { components } from './schema'

type S = components['schemas']

export type Definition = S['DefinitionInfo']
export type LayerInfo = S['LayerInfo']
export type ExplainInfo = S['ExplainInfo']
export type Attribution = S['AttributionEvent']
export type ReasonInfo = S['ReasonInfo']
export type TableEvent = S['TableEvent']
export type ExpertsOfLayer = S['ExpertsOfLayer']
export type FoundHead = S['FoundHead']
export type ExplainEvent = ExplainMessage['event']

export interface ExplainAsk {
  at: number
  contrast: number | null
  method: string
  tables: string[]
}

export type PatchMap = S['PatchEvent']
export type PatchEvent = PatchMessage['event']

export interface PatchAsk {
  at: number
  corrupt: string
  contrast: number | null
  parts: ('residual' | 'attention' | 'mlp' | 'heads')[]
  noising: boolean
}

export interface AblateAsk {
  at: number
  contrast: number | null
  part: 'head' | 'mlp' | 'edge'
  layer: number | null
  head: number | null
  query: number | null
  key: number | null
  how: 'zero' | 'mean' | 'cut'
}

export type MatrixKind = 'weights' | 'norm' | 'rollout'

const id = encodeURIComponent

export const explainApi = {
  info: () => askJson<ExplainInfo>('GET', 'explain'),
  explain: (node: string, body: ExplainAsk) =>
    askJson<JobInfo>('POST', `nodes/${id(node)}/explain`, body),
  patch: (node: string, body: PatchAsk) => askJson<JobInfo>('POST', `nodes/${id(node)}/patch`, body),
  ablate: (node: string, body: AblateAsk, signal?: AbortSignal) =>
    askJson<S['AblateResponse']>('POST', `nodes/${id(node)}/ablate`, body, signal),
  heads: (node: string, size: number, signal?: AbortSignal) =>
    askOctets(`nodes/${id(node)}/heads?size=${size}`, signal),
  matrix: (node: string, layer: number, head: string, kind: MatrixKind, signal?: AbortSignal) =>
    askOctets(`nodes/${id(node)}/matrix?layer=${layer}&head=${id(head)}&kind=${kind}`, signal),
  experts: (node: string, t: number, signal?: AbortSignal) =>
    askJson<ExpertsOfLayer[]>('GET', `nodes/${id(node)}/experts/${t}`, undefined, signal),
  find: (node: string, pattern: string, query: number | null, keys: number[], signal?: AbortSignal) =>
    askJson<FoundHead[]>(
      'GET',
      `nodes/${id(node)}/find?pattern=${id(pattern)}` +
        (query === null ? '' : `&query=${query}&keys=${keys.join(',')}`),
      undefined,
      signal,
    ),
}
