/** Audits: one function per route. */
import { askJson } from './client'
import type { components } from './schema'

type S = components['schemas']

export type AuditInfo = S['AuditInfo']
export type Audit = S['AuditResponse']
export type AuditAsk = S['AuditRequest']
export type AuditCase = S['CaseInfo']
export type AuditFile = S['AuditFile']
export type AuditSample = S['SampleResponse']
export type Bound = S['BoundInfo']
export type Gate = S['GateInfo']
export type Group = S['GroupInfo']
export type PolicyInfo = S['PolicyInfo']

const id = encodeURIComponent

export const auditsApi = {
  policy: () => askJson<PolicyInfo>('GET', 'policy'),
  list: () => askJson<AuditInfo[]>('GET', 'audits'),
  begin: (body: Partial<AuditAsk>) => askJson<AuditInfo>('POST', 'audits', body),
  of: (audit: string, signal?: AbortSignal) =>
    askJson<Audit>('GET', `audits/${id(audit)}`, undefined, signal),
  resume: (audit: string) => askJson<AuditInfo>('POST', `audits/${id(audit)}/resume`),
  sample: (audit: string, name: string, sample: number, signal?: AbortSignal) =>
    askJson<AuditSample>(
      'GET',
      `audits/${id(audit)}/sample?case=${id(name)}&sample=${sample}`,
      undefined,
      signal,
    ),
  open: (audit: string, name: string, sample: number) =>
    askJson<S['OpenedResponse']>('POST', `audits/${id(audit)}/open`, { case: name, sample }),
  fileAddress: (audit: string, file: string) => `api/audits/${id(audit)}/files/${id(file)}`,
}
