/** Structure: one function per route. */
import { askJson } from './client'
import type { components } from './schema'

type S = components['schemas']

export type StructureInfo = S['StructureInfo']
export type StructureResponse = S['StructureResponse']
export type NodeMatrix = S['NodeMatrixResponse']
export type ViabilityRow = S['ViabilityRow']
export type Verdict = ViabilityRow['verdicts'][number]

export interface BetweenAsk {
  by: string
  layer: string
  head: string
  sink: 'drop' | 'keep'
  normalise: 'mass' | 'row' | 'density'
  language: string
}

const id = encodeURIComponent
const query = (values: object): string =>
  Object.entries(values)
    .map(([name, value]) => `${name}=${id(String(value))}`)
    .join('&')

export const structureApi = {
  info: () => askJson<StructureInfo>('GET', 'structure'),
  of: (node: string, language: string, signal?: AbortSignal) =>
    askJson<StructureResponse>(
      'GET',
      `nodes/${id(node)}/structure?${query({ language })}`,
      undefined,
      signal,
    ),
  between: (node: string, ask: BetweenAsk, signal?: AbortSignal) =>
    askJson<NodeMatrix>('GET', `nodes/${id(node)}/between?${query(ask)}`, undefined, signal),
  viability: (node: string, t: number, language: string, signal?: AbortSignal) =>
    askJson<ViabilityRow>(
      'GET',
      `nodes/${id(node)}/viability/${t}?${query({ language })}`,
      undefined,
      signal,
    ),
}
