/** The shapes of core/drawing on a canvas of their own: the picture (PNG) beside the drawing (SVG). */
import { SIZE, type Drawing } from '../core/drawing'

const SHARP = 2 // device pixels a unit, where there is room
const MOST_PX = 8192 // a side: what every browser can still make

export function drawingCanvas(d: Drawing): HTMLCanvasElement {
  const scale = Math.min(SHARP, MOST_PX / Math.max(d.width, d.height))
  const canvas = document.createElement('canvas')
  canvas.width = Math.ceil(d.width * scale)
  canvas.height = Math.ceil(d.height * scale)
  const pen = canvas.getContext('2d')
  if (!pen) return canvas
  pen.scale(scale, scale)
  pen.fillStyle = d.paper
  pen.fillRect(0, 0, d.width, d.height)
  for (const s of d.shapes) {
    if (s.kind === 'rect') {
      pen.fillStyle = s.fill
      pen.fillRect(s.x, s.y, s.width, s.height)
    } else if (s.kind === 'line') {
      pen.strokeStyle = s.stroke
      pen.lineWidth = 1
      pen.beginPath()
      pen.moveTo(s.x1, s.y1)
      pen.lineTo(s.x2, s.y2)
      pen.stroke()
    } else if (s.kind === 'dot') {
      pen.fillStyle = s.fill
      pen.strokeStyle = s.stroke
      pen.lineWidth = 1.5
      pen.beginPath()
      pen.arc(s.x, s.y, s.r, 0, 2 * Math.PI)
      pen.fill()
      pen.stroke()
    } else {
      pen.fillStyle = s.fill
      pen.font = `${s.bold ? '600 ' : ''}${s.size ?? SIZE}px ${s.mono ? 'monospace' : 'sans-serif'}`
      pen.textAlign = s.end ? 'right' : 'left'
      pen.fillText(s.text, s.x, s.y)
    }
  }
  return canvas
}
