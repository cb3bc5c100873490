/** One text under two models. */
import { askJson } from './client'
import type { components } from './schema'

type S = components['schemas']

export type Drift = S['DriftResponse']
export type DriftCell = S['DriftCell']
export type Flip = S['FlipInfo']

const id = encodeURIComponent

export const driftApi = {
  /** The branch that holds the same text as `model` reads it; `run` is null where it was read before. */
  read: (node: string, model: string) =>
    askJson<S['ReadInfo']>('POST', `nodes/${id(node)}/read`, { model, alternatives: 10 }),
  of: (node: string, other: string, columns: readonly string[], exact: boolean, signal: AbortSignal) =>
    askJson<Drift>(
      'GET',
      `nodes/${id(node)}/drift/${id(other)}?columns=${columns.map(id).join(',')}&exact=${String(exact)}`,
      undefined,
      signal,
    ),
}
