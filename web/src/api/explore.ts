/** Explorations: what else the model would have written, and with which probability. */
import { askJson } from './client'
import type { components } from './schema'
import type { JobInfo } from './types'

type S = components['schemas']

export type ExploreAsk = Required<S['ExploreRequest']>
export type ExploreEvent = S['ExploreMessage']['event']
export type ExploreStart = S['ExploreStart']
export type ExploreBranch = S['ExploreBranch']
export type ExploreState = S['ExploreState']
export type ExploreDecision = S['ExploreDecision']
export type ExploreDecisions = S['ExploreDecisions']
export type Outcome = S['ExploreOutcome']

const id = encodeURIComponent

export const exploreApi = {
  explore: (node: string, body: Partial<ExploreAsk>) =>
    askJson<JobInfo>('POST', `nodes/${id(node)}/explore`, body),
}
