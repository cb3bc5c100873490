/** The tree as an icicle: a box for each region, its width its tokens or bytes, its row its depth. */
import type { Syntax, Unit } from './syntax'

export interface Box {
  region: number
  row: number
  /** Left edge and width as parts of the whole, 0..1. */
  left: number
  width: number
}

/**
 * Boxes below `root` in pre-order. Only regions with one of the level bits are drawn; a region that
 * has the very same bytes as the one drawn above it is left out. Boxes narrower than `least` (part
 * of the whole) are left out with all that lies in them.
 */
export function icicle(
  syntax: Syntax,
  root: number,
  bits: number,
  unit: Unit,
  least: number,
): { boxes: Box[]; rows: number } {
  const [from, to] = syntax.cells(root)
  const begin = syntax.measure(from, unit)
  const whole = syntax.measure(to, unit) - begin
  const boxes: Box[] = []
  if (!(whole > 0)) return { boxes: [{ region: root, row: 0, left: 0, width: 1 }], rows: 1 }
  const { start, end, parent } = syntax.raw
  const row = new Map<number, number>([[root, 0]])
  const drawn = new Map<number, number>([[root, root]])
  boxes.push({ region: root, row: 0, left: 0, width: 1 })
  let rows = 1
  for (let r = root + 1; r < syntax.length && start[r] < end[root]; r++) {
    const above = parent[r]
    if (!drawn.has(above)) continue // too narrow to be drawn, or not below the root
    const holder = drawn.get(above)!
    const same = start[r] === start[holder] && end[r] === end[holder] && holder !== root
    if (!syntax.is(r, bits) || same || start[r] === end[r]) {
      drawn.set(r, holder)
      continue
    }
    const [lo, hi] = syntax.cells(r)
    const left = (syntax.measure(lo, unit) - begin) / whole
    const width = (syntax.measure(hi, unit) - syntax.measure(lo, unit)) / whole
    if (width < least) continue
    const at = row.get(holder)! + 1
    row.set(r, at)
    drawn.set(r, r)
    rows = Math.max(rows, at + 1)
    boxes.push({ region: r, row: at, left, width })
  }
  return { boxes, rows }
}

/** The box that an arrow key leads to from the box of `region`; itself where there is none. */
export function step(
  boxes: Box[],
  region: number,
  key: 'ArrowUp' | 'ArrowDown' | 'ArrowLeft' | 'ArrowRight',
): number {
  const here = boxes.find((b) => b.region === region) ?? boxes[0]
  if (!here) return region
  const middle = here.left + here.width / 2
  const on = (row: number): Box[] => boxes.filter((b) => b.row === row)
  if (key === 'ArrowUp') {
    const above = on(here.row - 1).find((b) => b.left - 1e-9 <= middle && middle <= b.left + b.width + 1e-9)
    return (above ?? here).region
  }
  if (key === 'ArrowDown') {
    const below = on(here.row + 1).find(
      (b) => b.left >= here.left - 1e-9 && b.left + b.width <= here.left + here.width + 1e-9,
    )
    return (below ?? here).region
  }
  const row = on(here.row).sort((a, b) => a.left - b.left)
  const at = row.findIndex((b) => b.region === here.region) + (key === 'ArrowRight' ? 1 : -1)
  return (row[at] ?? here).region
}

export interface Drawn {
  title: string
  row: number
  left: number
  width: number
  fill: string
  ink: string
}

const escaped = (s: string): string =>
  s.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

/** The boxes as a drawing of their own; a name stands in a box that is wide enough for it. */
export function icicleSvg(boxes: readonly Drawn[], paper: string, width = 1400, row = 20): string {
  const rows = boxes.reduce((n, b) => Math.max(n, b.row + 1), 1)
  const round = (v: number): number => Number(v.toFixed(2))
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${rows * row}" width="${width}" height="${rows * row}" font-family="sans-serif" font-size="11">`,
    `<rect width="100%" height="100%" fill="${paper}"/>`,
  ]
  for (const b of boxes) {
    const [x, w] = [round(b.left * width), round(b.width * width)]
    out.push(`<rect x="${x}" y="${b.row * row}" width="${round(Math.max(0.5, w - 1))}" height="${row - 2}" rx="2" fill="${b.fill}"><title>${escaped(b.title)}</title></rect>`)
    const room = Math.floor((w - 8) / 6.2)
    if (room >= 4) {
      const name = b.title.length > room ? b.title.slice(0, room - 1) + '…' : b.title
      out.push(`<text x="${x + 4}" y="${b.row * row + 13}" fill="${b.ink}">${escaped(name)}</text>`)
    }
  }
  return [...out, '</svg>', ''].join('\n')
}
