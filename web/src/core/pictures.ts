/** Pictures of lists and trees of the page, as shapes, to be kept as files. */
import type { ExploreState } from '../api/explore'
import type { Attribution } from '../api/explain'
import type { NodeInfo } from '../api/types'
import { reach } from './diverging'
import { cut, type Drawing, type Shape } from './drawing'
import { percent, slices } from './explored'
import { number, probability } from './format'
import { outline, type BranchRow } from './outline'
import { shown } from './visible'

/** A colour of the page by its name (`--ink`). */
export type InkOf = (name: string) => string

const MARGIN = 14
const WIDTH = 900

const head = (title: string, ink: InkOf): Shape => ({ kind: 'text', x: MARGIN, y: 24, text: title, fill: ink('--ink'), size: 14, bold: true })

/** The bar of outcomes with its masses, and below it each outcome in words; what is unexplored stands in it. */
export function outcomesDrawing(state: ExploreState, title: string, ink: InkOf): Drawing {
  const parts = slices(state)
  const wide = WIDTH - 2 * MARGIN
  const shapes: Shape[] = [head(title, ink)]
  const lines: { colour: string; mass: number; text: string }[] = parts.shown.map((s, i) => ({
    colour: ink(`--series-${Math.min(i + 1, 5)}`),
    mass: s.mass,
    text: shown(s.outcome!.label.trim(), 100) || '∅',
  }))
  if (parts.thin > 0) lines.push({ colour: ink('--ink-3'), mass: parts.thin, text: 'outcomes of less than 1 % each' })
  if (parts.unexplored > 0) lines.push({ colour: ink('--well'), mass: parts.unexplored, text: 'unexplored' })
  const whole = lines.reduce((s, l) => s + l.mass, 0) || 1
  let x = MARGIN
  lines.forEach((l, i) => {
    const width = (wide * l.mass) / whole
    shapes.push({ kind: 'rect', x, y: 38, width: Math.max(1, width - 1), height: 28, fill: l.colour })
    const y = 92 + 22 * i
    shapes.push({ kind: 'rect', x: MARGIN, y: y - 10, width: 12, height: 12, fill: l.colour })
    shapes.push({ kind: 'text', x: MARGIN + 74, y, text: percent(l.mass), fill: ink('--ink'), bold: true, end: true })
    shapes.push({ kind: 'text', x: MARGIN + 88, y, text: cut(l.text, wide - 88, 12, true), fill: ink('--ink'), mono: true })
    x += width
  })
  return { width: WIDTH, height: 92 + 22 * lines.length, paper: ink('--paper'), shapes }
}

/** A row per outcome, and one for what no branch holds. */
export function outcomeRows(state: ExploreState): Record<string, unknown>[] {
  const rows = state.outcomes.map((o) => ({
    outcome: o.label, mass: o.mass, low: o.low, high: o.high, draws: o.draws, branches: o.branches.length,
  })) // prettier-ignore
  return [...rows, { outcome: 'unexplored', mass: state.unexplored, low: null, high: null, draws: null, branches: 0 }]
}

/** Spans taken out in turn: bars of what the choice loses, to the left where it gains. */
export function reasonsDrawing(made: Attribution, ink: InkOf): Drawing {
  const most = reach(made.reasons.map((r) => r.drop)) || 1
  const [middle, half] = [600, 200]
  const against = made.contrast === null ? '' : ` rather than ${shown(made.contrast, 24)}`
  const shapes: Shape[] = [head(cut(`Why ${shown(made.token, 24)}${against}: what each span gives, nats`, WIDTH, 14), ink)]
  made.reasons.forEach((r, i) => {
    const y = 52 + 24 * i
    const width = (half * Math.abs(r.drop)) / most
    shapes.push({ kind: 'text', x: MARGIN, y, text: `line ${r.line}`, fill: ink('--ink-2'), size: 11 })
    shapes.push({ kind: 'text', x: MARGIN + 58, y, text: cut(shown(r.text, 60), 320, 12, true), fill: ink('--ink'), mono: true })
    shapes.push({ kind: 'rect', x: r.drop < 0 ? middle - width : middle, y: y - 11, width, height: 14, fill: ink(r.drop < 0 ? '--series-1' : '--series-2') })
    shapes.push({ kind: 'text', x: WIDTH - MARGIN, y, text: `${r.drop > 0 ? '+' : ''}${number(r.drop)}`, fill: ink('--ink'), end: true })
  })
  const end = 52 + 24 * made.reasons.length
  shapes.push({ kind: 'line', x1: middle, y1: 36, x2: middle, y2: end - 14, stroke: ink('--ink-3') })
  return { width: WIDTH, height: end, paper: ink('--paper'), shapes }
}

const STEP = 16 // to the right, for each generation
const ROW = 24

/** Every branch, opened, on a line of its own: what it says from where it differs, and its figures. */
export function treeDrawing(
  nodes: NodeInfo[],
  colourOf: (n: NodeInfo) => string | null,
  title: string,
  ink: InkOf,
): Drawing {
  const rows = outline(nodes, {
    sort: null, matches: null, closed: new Set(), unfolded: new Set(), shown: null, most: Infinity,
  }).filter((r): r is BranchRow => r.kind === 'branch') // prettier-ignore
  const deepest = rows.reduce((m, r) => Math.max(m, r.rails.length), 0)
  const left = MARGIN + 6 + deepest * STEP
  const right = left + 460
  const figures: { title: string; of: (n: NodeInfo) => string }[] = [
    { title: 'tokens', of: (n) => String(n.own_tokens) },
    { title: 'nats', of: (n) => number(n.own_surprisal, 3) },
    { title: 'ln p', of: (n) => number(n.own_logprob) },
    { title: 'turn p', of: (n) => (n.turn_logprob === null ? '' : probability(Math.exp(n.turn_logprob))) },
  ]
  const column = (i: number): number => right + 62 * (i + 1)
  const shapes: Shape[] = [head(cut(title, right, 14), ink)]
  figures.forEach((f, i) => shapes.push({ kind: 'text', x: column(i), y: 44, text: f.title, fill: ink('--ink-2'), size: 11, end: true }))
  const rail = ink('--line-strong')
  const dots: Shape[] = [] // over the rails
  rows.forEach((r, i) => {
    const y = 64 + ROW * i
    const x = MARGIN + 6 + r.rails.length * STEP
    r.rails.forEach((on, k) => {
      const at = MARGIN + 6 + k * STEP
      const own = k === r.rails.length - 1
      if (own && !r.spine) {
        shapes.push({ kind: 'line', x1: at, y1: y - ROW, x2: at, y2: on ? y + ROW / 2 : y, stroke: rail })
        shapes.push({ kind: 'line', x1: at, y1: y, x2: x, y2: y, stroke: rail })
      } else if (own) shapes.push({ kind: 'line', x1: x, y1: y - ROW, x2: x, y2: y, stroke: rail })
      else if (on) shapes.push({ kind: 'line', x1: at, y1: y - ROW, x2: at, y2: y + ROW / 2, stroke: rail })
    })
    const colour = colourOf(r.node)
    const fill = colour === null ? ink('--paper') : ink(colour)
    dots.push({ kind: 'dot', x, y, r: 4, fill, stroke: colour === null ? ink('--ink-3') : fill })
    const text = r.node.title || shown(r.node.excerpt.trim(), 80) || '∅'
    const room = right - x - 20
    shapes.push({ kind: 'text', x: x + 12, y: y + 4, text: cut(text, room, 12, !r.node.title), fill: ink('--ink'), mono: !r.node.title })
    figures.forEach((f, k) => shapes.push({ kind: 'text', x: column(k), y: y + 4, text: f.of(r.node), fill: ink('--ink'), end: true }))
  })
  return { width: column(figures.length - 1) + MARGIN, height: 64 + ROW * rows.length, paper: ink('--paper'), shapes: [...shapes, ...dots] }
}

/** A row per branch, as the list has it. */
export function treeRows(nodes: readonly NodeInfo[]): Record<string, unknown>[] {
  return nodes.map((n) => ({
    branch: n.id, parent: n.parent, at: n.at, title: n.title, excerpt: n.excerpt, tokens: n.own_tokens,
    mean_surprisal: n.own_surprisal, joint_logprob: n.own_logprob, turn_logprob: n.turn_logprob,
    perplexity: n.summary.perplexity, finish: n.finish, model: n.model, bookmarked: Number(n.starred), note: n.note,
  })) // prettier-ignore
}
