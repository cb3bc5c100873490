/**
 * A heat map on a canvas: rows x columns of numbers on a diverging scale, cells of a size that the
 * caller chooses. What has no number stays paper.
 */
import { side } from '../core/diverging'
import type { Ramp } from '../core/ramp'

export interface Grid {
  rows: number
  columns: number
  /** Row by row; NaN: no such place. */
  values: Float32Array
}

/** Rows of the wire as a grid, only the columns `from` and after. */
export function grid(rows: readonly (readonly (number | null)[])[], from: number): Grid {
  const columns = Math.max(0, (rows[0]?.length ?? 0) - from)
  const values = new Float32Array(rows.length * columns).fill(NaN)
  rows.forEach((row, r) => {
    for (let c = 0; c < columns; c++) values[r * columns + c] = row[from + c] ?? NaN
  })
  return { rows: rows.length, columns, values }
}

/** The first row is drawn at the bottom: layers go up, as the stream does. */
export function drawHeat(canvas: HTMLCanvasElement, g: Grid, cell: { width: number; height: number }, ramp: Ramp, dpr: number): void {
  canvas.width = Math.max(1, Math.round(g.columns * cell.width * dpr))
  canvas.height = Math.max(1, Math.round(g.rows * cell.height * dpr))
  const context = canvas.getContext('2d')
  if (!context) return
  context.setTransform(dpr, 0, 0, dpr, 0, 0)
  for (let r = 0; r < g.rows; r++) {
    for (let c = 0; c < g.columns; c++) {
      const step = side(g.values[r * g.columns + c], 1)
      if (step < 0) continue
      context.fillStyle = ramp.fill[step]
      context.fillRect(c * cell.width, (g.rows - 1 - r) * cell.height, cell.width - 1, cell.height - 1)
    }
  }
}

/** The cell under a point of the canvas, or null beside it. */
export function cellAt(g: Grid, cell: { width: number; height: number }, x: number, y: number): { row: number; column: number } | null {
  const column = Math.floor(x / cell.width)
  const row = g.rows - 1 - Math.floor(y / cell.height)
  return row >= 0 && row < g.rows && column >= 0 && column < g.columns ? { row, column } : null
}
