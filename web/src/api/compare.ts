/** Two branches side by side, in numbers. */
import { askJson } from './client'
import type { components } from './schema'

type S = components['schemas']

export type Compared = S['CompareResponse']
export type Apart = S['ApartInfo']

const id = encodeURIComponent

export const compareApi = {
  of: (node: string, other: string, by: string, exact: boolean, signal?: AbortSignal) =>
    askJson<Compared>(
      'GET',
      `nodes/${id(node)}/compare/${id(other)}?columns=surprisal,entropy&by=${id(by)}&exact=${String(exact)}`,
      undefined,
      signal,
    ),
}
