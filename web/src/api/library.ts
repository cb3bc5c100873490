/** The models at hand: what they are, what they would take here, fetching; and the recorder. */
import { askJson, askStream } from './client'
import type { components } from './schema'
import type { JobInfo, ModelState } from './types'

type S = components['schemas']

export type Entry = S['LibraryEntry']
export type Library = S['LibraryResponse']
export type Plan = S['PlanResponse']
export type Way = S['ChoiceInfo']
export type Offer = S['OfferRequest']
export type Recorder = S['RecorderInfo']
export type RecorderCall = S['RecorderCall']

const id = encodeURIComponent

export const libraryApi = {
  library: () => askJson<Library>('GET', 'library'),
  plan: (address: string, context: number | null) =>
    askJson<Plan>('GET', `plan?address=${id(address)}${context === null ? '' : `&context=${context}`}`),
  offer: (body: Offer) => askJson<ModelState>('POST', 'models', body),
  get: (name: string) => askJson<JobInfo>('POST', `library/${id(name)}/get`),
  /** Every event of one job, from its first to its last. */
  follow: (run: string, signal: AbortSignal) => askStream(`events?run=${id(run)}`, signal),
  recorder: () => askJson<Recorder>('GET', 'recorder'),
  pause: (paused: boolean) => askJson<Recorder>('PATCH', 'recorder', { paused }),
}
