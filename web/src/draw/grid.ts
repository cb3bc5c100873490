/** A grid with its labels on a canvas of its own: the picture (PNG) beside the drawing of core/grid. */
import { every, frame, LABEL, type Grid, type GridInk, type Size } from '../core/grid'

const MOST_PX = 8192 // a side: what every browser can still make
const SHARP = 2 // device pixels a unit, where there is room

/** Cells shrink, and then the sharpness, until the picture fits. */
export function gridCanvas(g: Grid, wanted: Size, ink: GridInk): HTMLCanvasElement {
  const cell = {
    width: Math.min(wanted.width, Math.max(1, (MOST_PX - 400) / Math.max(1, g.columns.length))),
    height: Math.min(wanted.height, Math.max(1, (MOST_PX - 400) / Math.max(1, g.rows.length))),
  }
  const at = frame(g, cell)
  const scale = Math.min(SHARP, MOST_PX / Math.max(at.width, at.height))
  const canvas = document.createElement('canvas')
  canvas.width = Math.ceil(at.width * scale)
  canvas.height = Math.ceil(at.height * scale)
  const pen = canvas.getContext('2d')
  if (!pen) return canvas
  pen.scale(scale, scale)
  pen.fillStyle = ink.paper
  pen.fillRect(0, 0, at.width, at.height)
  for (let r = 0; r < g.rows.length; r++) {
    for (let c = 0; c < g.columns.length; c++) {
      const fill = g.fill(r, c)
      if (fill === null) continue
      pen.fillStyle = fill
      pen.fillRect(at.left + c * cell.width, at.top + r * cell.height, cell.width, cell.height)
    }
  }
  const name = (s: string, most: number): string => (s.length > most ? s.slice(0, most - 1) + '…' : s)
  pen.fillStyle = ink.text
  pen.font = `${LABEL}px monospace`
  pen.textAlign = 'right'
  for (let r = 0; r < g.rows.length; r += every(cell.height)) {
    pen.fillText(name(g.rows[r], 30), at.left - 5, at.top + (r + 0.5) * cell.height + LABEL / 3)
  }
  pen.textAlign = 'left'
  for (let c = 0; c < g.columns.length; c += every(cell.width)) {
    pen.save()
    pen.translate(at.left + (c + 0.5) * cell.width + LABEL / 3, at.top - 4)
    pen.rotate(-Math.PI / 2)
    pen.fillText(name(g.columns[c], 18), 0, 0)
    pen.restore()
  }
  pen.font = '13px sans-serif'
  pen.fillText(g.title, 8, 17)
  pen.font = `${LABEL}px sans-serif`
  pen.fillStyle = ink.faint
  pen.fillText(g.note, 8, at.height - 9)
  return canvas
}
