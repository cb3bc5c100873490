/** Ledgers: arms of edits over prompts. */
import { askJson } from './client'
import type { components } from './schema'
import type { JobInfo, Settings } from './types'

type S = components['schemas']

export type LedgerAsk = Omit<S['LedgerRequest'], 'settings'> & { settings: Settings }
export type LedgerEvent = S['LedgerMessage']['event']
export type LedgerStart = S['LedgerStart']
export type LedgerArm = S['LedgerArm']
export type LedgerFigure = S['LedgerFigure']
export type Damage = S['DamageInfo']

const id = encodeURIComponent

export const ledgerApi = {
  begin: (body: LedgerAsk) => askJson<JobInfo>('POST', 'ledger', body),
  fileAddress: (run: string, format: 'json' | 'html') => `api/ledger/${id(run)}?format=${format}`,
}
