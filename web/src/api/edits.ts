/** Edits: what kinds there are. The edits themselves travel with the settings of a decoding. */
import { askJson } from './client'
import type { components } from './schema'

type S = components['schemas']

export type Edit = Required<S['Settings']>['edits'][number]
export type EditKind = S['EditKind']
export type EditField = S['EditField']

export const editsApi = {
  kinds: () => askJson<S['EditsInfo']>('GET', 'edits'),
}
