/** Findings of a branch, and the risk mass of one. */
import { askJson } from './client'
import type { components } from './schema'

type S = components['schemas']

export type FindingsInfo = S['FindingsResponse']
export type Finding = S['FindingResponse']
export type Risk = S['RiskResponse']
export type EditLikelihood = S['LikelihoodResponse']

const id = encodeURIComponent

export const evidenceApi = {
  findings: (node: string, signal?: AbortSignal) =>
    askJson<FindingsInfo>('GET', `nodes/${id(node)}/findings`, undefined, signal),
  likelihood: (node: string, signal?: AbortSignal) =>
    askJson<EditLikelihood>('GET', `nodes/${id(node)}/likelihood`, undefined, signal),
  risk: (node: string, finding: Finding, signal?: AbortSignal) =>
    askJson<Risk>(
      'GET',
      `nodes/${id(node)}/risk?rule=${id(finding.rule)}&start=${finding.start}`,
      undefined,
      signal,
    ),
}
