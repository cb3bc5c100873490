/**
 * Heads by tokens on a canvas the size of the window: only what is in sight is drawn, so that
 * hundreds of heads over thousands of tokens scroll freely. Names stay at the edges.
 */
import type { Weights } from '../core/attention'
import { stepOf, type Cells, type HeadRow } from '../core/headmap'
import type { Ramp } from '../core/ramp'

export const LEFT = 52
export const TOP = 84

export interface HeadMapFace {
  weights: Weights
  rows: readonly HeadRow[]
  cell: Cells
  most: number
  ramp: Ramp
  /** Rows of one layer follow each other: a line parts them. */
  parted: boolean
  text: (t: number) => string
  at: { row: number; column: number } | null
  /** Row of the head that is shown large. */
  chosen: number
  ink: { paper: string; text: string; faint: string; line: string; accent: string; mono: string }
}

export function drawHeadMap(
  canvas: HTMLCanvasElement,
  face: HeadMapFace,
  view: { left: number; top: number; width: number; height: number },
  dpr: number,
): void {
  const [w, h] = [Math.round(view.width * dpr), Math.round(view.height * dpr)]
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h })
  const pen = canvas.getContext('2d')
  if (!pen) return
  const { weights, rows, cell, ink } = face
  pen.setTransform(dpr, 0, 0, dpr, 0, 0)
  pen.fillStyle = ink.paper
  pen.fillRect(0, 0, view.width, view.height)
  const first = { row: Math.floor(view.top / cell.height), column: Math.floor(view.left / cell.width) }
  const last = {
    row: Math.min(rows.length, Math.ceil((view.top + view.height - TOP) / cell.height)),
    column: Math.min(weights.length, Math.ceil((view.left + view.width - LEFT) / cell.width)),
  }
  const x = (c: number): number => LEFT + c * cell.width - view.left
  const y = (r: number): number => TOP + r * cell.height - view.top
  for (let r = first.row; r < last.row; r++) {
    const from = rows[r].index * weights.length
    for (let c = first.column; c < last.column; c++) {
      const s = stepOf(weights.values[from + c], face.most)
      if (s <= 0) continue
      pen.fillStyle = face.ramp.fill[s]
      pen.fillRect(x(c), y(r), cell.width - 1, cell.height - (cell.height > 9 ? 1 : 0))
    }
    if (face.parted && rows[r].head === 0) {
      pen.fillStyle = ink.line
      pen.fillRect(LEFT, y(r) - 0.5, x(weights.length) - LEFT, 1)
    }
  }
  if (face.at) {
    pen.fillStyle = ink.accent
    pen.globalAlpha = 0.12
    pen.fillRect(LEFT, y(face.at.row), x(weights.length) - LEFT, cell.height)
    pen.fillRect(x(face.at.column), TOP, cell.width - 1, y(rows.length) - TOP)
    pen.globalAlpha = 1
    pen.strokeStyle = ink.text
    pen.strokeRect(x(face.at.column) - 0.5, y(face.at.row) - 0.5, cell.width, cell.height)
  }
  names(pen, face, view, first, last, x, y)
}

function names(
  pen: CanvasRenderingContext2D,
  face: HeadMapFace,
  view: { width: number; height: number },
  first: { row: number; column: number },
  last: { row: number; column: number },
  x: (c: number) => number,
  y: (r: number) => number,
): void {
  const { rows, cell, ink, at } = face
  pen.fillStyle = ink.paper
  pen.fillRect(0, 0, view.width, TOP)
  pen.fillRect(0, 0, LEFT, view.height)
  pen.font = `10.5px ${ink.mono}`
  pen.textBaseline = 'middle'
  for (let c = first.column; c < last.column; c++) {
    const middle = x(c) + (cell.width - 1) / 2
    if (middle < LEFT) continue
    pen.save()
    pen.translate(middle, TOP - 5)
    pen.rotate(-Math.PI / 2)
    pen.fillStyle = at?.column === c ? ink.text : ink.faint
    pen.fillText(face.text(c), 0, 0)
    pen.restore()
  }
  pen.fillStyle = ink.paper
  pen.fillRect(0, 0, LEFT, TOP)
  pen.textAlign = 'right'
  for (let r = first.row; r < last.row; r++) {
    const middle = y(r) + cell.height / 2
    const named = cell.height >= 11 || rows[r].head === 0 || !face.parted || at?.row === r
    if (middle < TOP + 3 || !named || (!face.parted && cell.height < 11 && r % 2 === 1 && at?.row !== r)) continue
    pen.fillStyle = r === face.chosen ? ink.accent : at?.row === r ? ink.text : ink.faint
    pen.fillText(cell.height < 11 && face.parted && at?.row !== r ? String(rows[r].layer) : `${rows[r].layer}.${rows[r].head}`, LEFT - 7, middle)
  }
  pen.textAlign = 'left'
  pen.fillStyle = ink.line
  pen.fillRect(LEFT - 1, 0, 1, view.height)
  pen.fillRect(0, TOP - 1, view.width, 1)
}
