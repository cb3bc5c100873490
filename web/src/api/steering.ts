/** Steering vectors that the server keeps. */
import { askJson } from './client'
import type { components } from './schema'

type S = components['schemas']

export type SteeringVector = S['SteeringVectorInfo']
export type SteeringAsk = S['SteeringRequest']

export const steeringApi = {
  list: () => askJson<SteeringVector[]>('GET', 'steering'),
  make: (body: Partial<SteeringAsk>) => askJson<SteeringVector>('POST', 'steering', body),
}
