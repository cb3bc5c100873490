/** Forking tokens: where a choice changes what comes of the text. */
import { askJson } from './client'
import type { components } from './schema'
import type { JobInfo } from './types'

type S = components['schemas']

export type ForkingAsk = Required<S['ForkingRequest']>
export type ForkingEvent = S['ForkingMessage']['event']
export type ForkingStart = S['ForkingStart']
export type ForkPlace = S['ForkPlace']
export type ForkingDone = S['ForkingDone']

const id = encodeURIComponent

export const forkingApi = {
  begin: (node: string, body: Partial<ForkingAsk>) =>
    askJson<JobInfo>('POST', `nodes/${id(node)}/forking`, body),
  /** What the alternatives of one token lead to, at once. */
  place: (node: string, t: number, width: number, outcome: string, signal?: AbortSignal) =>
    askJson<ForkPlace>(
      'GET',
      `nodes/${id(node)}/alternatives/${t}/outcomes?width=${width}&outcome=${id(outcome)}`,
      undefined,
      signal,
    ),
}
