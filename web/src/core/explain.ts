/** What comes from the explain routes, in the shape that the pictures want. */
import type { TableEvent } from '../api/explain'
import { littleFloats, littleInts } from './trace'

type Rows = TableEvent['rows']

/** A cell as a number; what is no number is NaN. */
export const num = (v: unknown): number => (typeof v === 'number' ? v : NaN)
export const str = (v: unknown): string => (typeof v === 'string' ? v : '')

// --- parts of the model -----------------------------------------------------------------------
export interface PartGrid {
  /** Layers from the bottom; `heads` one value per head, NaN where the layer has fewer. */
  layers: { layer: number; heads: number[]; mlp: number; other: number }[]
  heads: number
  /** Embedding and biases: what belongs to no layer. */
  rest: { title: string; value: number }[]
  most: number
}

const REST: Record<string, string> = {
  embedding: 'embedding',
  norm_bias: 'bias of the final norm',
  head_bias: 'bias of the output head',
}

/** Values per head and MLP, laid out by layer. `field` names the column that holds the value. */
export function partGrid(rows: Rows, field: string): PartGrid {
  const byLayer = new Map<number, PartGrid['layers'][number]>()
  const rest: PartGrid['rest'] = []
  let most = 0
  for (const row of rows) {
    const value = num(row[field])
    if (Math.abs(value) > most) most = Math.abs(value)
    const layer = num(row.layer)
    const part = str(row.part)
    if (layer < 0) {
      rest.push({ title: REST[part] ?? part, value })
      continue
    }
    const entry = byLayer.get(layer) ?? { layer, heads: [], mlp: NaN, other: NaN }
    byLayer.set(layer, entry)
    if (part === 'head') entry.heads[num(row.head)] = value
    else if (part === 'mlp') entry.mlp = value
    else entry.other = (Number.isNaN(entry.other) ? 0 : entry.other) + value
  }
  const layers = [...byLayer.values()].sort((a, b) => a.layer - b.layer)
  const heads = layers.reduce((n, l) => Math.max(n, l.heads.length), 0)
  return { layers, heads, rest, most }
}

// --- regions ----------------------------------------------------------------------------------
export interface RegionBar {
  title: string
  start: number
  end: number
  line: number
  value: number
}

/** The heaviest regions of a level, at most n. */
export function regionBars(rows: Rows, level: string, n = 12): RegionBar[] {
  return rows
    .filter((r) => r.level === level)
    .slice(0, n)
    .map((r) => ({
      title: level === 'line' ? `line ${num(r.line)}` : str(r.name) || str(r.kind).replaceAll('_', ' '),
      start: num(r.start),
      end: num(r.end),
      line: num(r.line),
      value: num(r.value),
    }))
}

/** Levels that the rows hold, in their order. */
export function levelsOf(rows: Rows): string[] {
  return [...new Set(rows.map((r) => str(r.level)))]
}

// --- curves -----------------------------------------------------------------------------------
export interface Frame {
  width: number
  height: number
  lo: number
  hi: number
}

/** An SVG path over points (x in 0..1, y in lo..hi), y upwards. */
export function path(xs: number[], ys: number[], f: Frame): string {
  const span = f.hi - f.lo || 1
  return xs
    .map((x, i) => `${i ? 'L' : 'M'}${(x * f.width).toFixed(1)} ${(f.height - ((ys[i] - f.lo) / span) * f.height).toFixed(1)}`)
    .join('')
}

/** A closed band between two curves. */
export function band(xs: number[], low: number[], high: number[], f: Frame): string {
  const back = path([...xs].reverse(), [...high].reverse(), f).replace('M', 'L')
  return `${path(xs, low, f)}${back}Z`
}

// --- heads ------------------------------------------------------------------------------------
export interface Survey {
  layers: number[]
  heads: number
  /** Cells a side of each picture, and tokens a cell stands for. */
  cells: number
  cell: number
  /** By name: L * H values, and over how many queries each is a mean. */
  statistics: Map<string, Float32Array>
  counts: Map<string, number>
  pictures: Float32Array
  bytes: number
}

/** Octets of the heads route; `names` in the order that the server told. */
export function readSurvey(buffer: ArrayBuffer, headers: Headers, names: string[]): Survey {
  const [S, L, H, C] = (headers.get('x-heads-shape') ?? '').split(',').map(Number)
  const size = S * L * H * 4 + S * 4 + L * H * C * C * 4
  if (S !== names.length || size !== buffer.byteLength) {
    throw new RangeError('The heads came in another shape than announced.')
  }
  const counts = littleInts(buffer, S * L * H * 4, S)
  return {
    layers: (headers.get('x-heads-layers') ?? '').split(',').map(Number),
    heads: H,
    cells: C,
    cell: Number(headers.get('x-heads-cell')),
    statistics: new Map(names.map((n, i) => [n, littleFloats(buffer, i * L * H * 4, L * H)])),
    counts: new Map(names.map((n, i) => [n, counts[i]])),
    pictures: littleFloats(buffer, S * L * H * 4 + S * 4, L * H * C * C),
    bytes: Number(headers.get('x-memory-bytes')),
  }
}

/** Where a weight lies on the picture's scale: the square root, so that small weights show. */
export function shade(v: number, most: number): number {
  return most > 0 && v > 0 ? Math.sqrt(Math.min(1, v / most)) : 0
}

/**
 * Upper end of a matrix's scale: 99.8 % of the positive weights lie below it. The first rows, which
 * have few keys to share among, would otherwise wash out all others.
 */
export function topOf(values: Float32Array): number {
  const BINS = 4096
  let most = 0
  for (let i = 0; i < values.length; i++) if (values[i] > most) most = values[i]
  if (most === 0) return 0
  const bins = new Uint32Array(BINS)
  let all = 0
  for (let i = 0; i < values.length; i++) {
    if (!(values[i] > 0)) continue
    bins[Math.min(BINS - 1, Math.floor((values[i] / most) * BINS))]++
    all++
  }
  let above = Math.floor(all * 0.002)
  let bin = BINS - 1
  while (bin > 0 && above >= bins[bin]) above -= bins[bin--]
  return (most * (bin + 1)) / BINS
}

/** Layer and head with the largest value of a statistic. */
export function strongest(s: Survey, name: string): { layer: number; head: number } {
  const values = s.statistics.get(name) ?? new Float32Array(0)
  let best = 0
  values.forEach((v, i) => {
    if (v > (values[best] || 0)) best = i
  })
  return { layer: s.layers[Math.floor(best / s.heads)] ?? 0, head: best % s.heads }
}

// --- the large matrix -------------------------------------------------------------------------
export interface Camera {
  /** Matrix cell at the left and top edge, and screen pixels a cell. */
  x: number
  y: number
  zoom: number
}

/** Keep the matrix in sight: never smaller than the room, never scrolled past its edge. */
export function held(c: Camera, n: number, width: number, height: number): Camera {
  const least = Math.min(width, height) / Math.max(1, n)
  const zoom = Math.max(least, Math.min(48, c.zoom))
  return {
    zoom,
    x: Math.max(0, Math.min(c.x, n - width / zoom)),
    y: Math.max(0, Math.min(c.y, n - height / zoom)),
  }
}

/** Zoom by a factor about a point on the screen: the cell under it stays under it. */
export function zoomed(c: Camera, factor: number, px: number, py: number): Camera {
  const zoom = c.zoom * factor
  return { zoom, x: c.x + px / c.zoom - px / zoom, y: c.y + py / c.zoom - py / zoom }
}
