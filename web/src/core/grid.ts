/** Rows by columns of numbers as files: comma-separated values, and a drawing (SVG) with its labels. */
import { cell as quoted } from './chart'
import { escaped } from './drawing'

export interface Grid {
  title: string
  /** What the colours mean, below the picture. */
  note: string
  rows: readonly string[]
  columns: readonly string[]
  value: (row: number, column: number) => number
  /** Colour of a cell, null for paper. */
  fill: (row: number, column: number) => string | null
}

export interface GridInk {
  paper: string
  text: string
  faint: string
}

export interface Size {
  width: number
  height: number
}

export const LABEL = 11 // size of the names, px
const TITLE = 26
const NOTE = 20

/** How the picture is cut up: names of rows on the left, of columns above, standing upright. */
export function frame(g: Grid, cell: Size): { left: number; top: number; width: number; height: number } {
  const longest = (names: readonly string[], most: number): number =>
    Math.min(most, names.reduce((n, s) => Math.max(n, s.length), 0)) * LABEL * 0.62 + 8
  const left = longest(g.rows, 30)
  const top = TITLE + longest(g.columns, 18)
  const width = Math.max(left + g.columns.length * cell.width + 8, 320)
  return { left, top, width, height: top + g.rows.length * cell.height + NOTE + 8 }
}

/** Names stand on every n-th row or column, so that none covers the next. */
export const every = (size: number): number => Math.max(1, Math.ceil((LABEL + 1) / size))

/** One row per row: its name, then a value per column, empty where there is none. */
export function gridCsv(g: Grid): string {
  const lines = [['', ...g.columns].map(quoted).join(',')]
  g.rows.forEach((name, r) => {
    const values = g.columns.map((_, c) => {
      const v = g.value(r, c)
      return Number.isNaN(v) ? '' : String(v)
    })
    lines.push([quoted(name), ...values].join(','))
  })
  return lines.join('\n') + '\n'
}

/** The picture as a drawing: one path per colour, however many cells there are. */
export function gridSvg(g: Grid, cell: Size, ink: GridInk): string {
  const { left, top, width, height } = frame(g, cell)
  const round = (v: number): number => Number(v.toFixed(2))
  const paths = new Map<string, string[]>()
  for (let r = 0; r < g.rows.length; r++) {
    for (let c = 0; c < g.columns.length; c++) {
      const fill = g.fill(r, c)
      if (fill === null) continue
      const d = `M${round(left + c * cell.width)} ${round(top + r * cell.height)}h${round(cell.width)}v${round(cell.height)}h-${round(cell.width)}z`
      const known = paths.get(fill)
      if (known) known.push(d)
      else paths.set(fill, [d])
    }
  }
  const name = (s: string, most: number): string => escaped(s.length > most ? s.slice(0, most - 1) + '…' : s)
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${round(width)} ${round(height)}" width="${round(width)}" height="${round(height)}" font-family="monospace" font-size="${LABEL}">`,
    `<rect width="100%" height="100%" fill="${ink.paper}"/>`,
    `<text x="8" y="17" fill="${ink.text}" font-family="sans-serif" font-size="13">${escaped(g.title)}</text>`,
  ]
  for (let c = 0; c < g.columns.length; c += every(cell.width)) {
    const x = round(left + (c + 0.5) * cell.width + LABEL / 3)
    out.push(`<text transform="translate(${x} ${round(top - 4)}) rotate(-90)" fill="${ink.text}">${name(g.columns[c], 18)}</text>`)
  }
  for (let r = 0; r < g.rows.length; r += every(cell.height)) {
    out.push(`<text x="${round(left - 5)}" y="${round(top + (r + 0.5) * cell.height + LABEL / 3)}" text-anchor="end" fill="${ink.text}">${name(g.rows[r], 30)}</text>`)
  }
  for (const [fill, d] of paths) out.push(`<path d="${d.join('')}" fill="${fill}"/>`)
  out.push(`<text x="8" y="${round(height - 9)}" fill="${ink.faint}" font-family="sans-serif">${escaped(g.note)}</text>`)
  return [...out, '</svg>', ''].join('\n')
}
