/** The trend strip: columns over tokens, on one canvas. Each line runs on its own scale. */
import { envelope, type Window } from '../core/series'
import { place, type Range } from '../core/scale'

export interface Line {
  values: Float32Array
  range: Range
  scale: 'linear' | 'log'
  colour: string
  dash: number[]
}

export interface TrendPicture {
  lines: Line[]
  window: Window
  nPrompt: number
  /** Where this branch leaves its parent. */
  at: number | null
  selected: { first: number; last: number } | null
  colours: { faint: string; rule: string; prompt: string; accent: string }
  /** Part that is being marked to zoom into. */
  brush: Window | null
}

const PAD = { top: 6, bottom: 15 }

export function drawTrend(canvas: HTMLCanvasElement, p: TrendPicture): void {
  const ratio = globalThis.devicePixelRatio || 1
  const width = canvas.clientWidth
  const height = canvas.clientHeight
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio)
    canvas.height = Math.round(height * ratio)
  }
  const g = canvas.getContext('2d')
  if (!g || width === 0) return
  g.setTransform(ratio, 0, 0, ratio, 0, 0)
  g.clearRect(0, 0, width, height)

  const { from, to } = p.window
  const per = width / Math.max(1, to - from)
  const x = (t: number): number => (t - from) * per
  const bottom = height - PAD.bottom
  const y = (share: number): number => bottom - share * (bottom - PAD.top)

  // The prompt's region, and the axis.
  if (p.nPrompt > from) {
    g.fillStyle = p.colours.prompt
    g.fillRect(0, 0, Math.min(width, x(p.nPrompt)), bottom)
  }
  g.fillStyle = p.colours.rule
  g.fillRect(0, bottom, width, 1)
  g.fillRect(0, y(1), width, 1)
  axis(g, p, x, width, bottom)

  if (p.selected) {
    g.fillStyle = p.colours.accent
    g.globalAlpha = p.selected.first === p.selected.last ? 1 : 0.25
    const w = Math.max(1.5, (p.selected.last - p.selected.first) * per)
    g.fillRect(x(p.selected.first + 0.5) - 0.75, 0, w, bottom)
    g.globalAlpha = 1
  }
  if (p.at !== null && p.at >= from) {
    g.fillStyle = p.colours.accent
    g.beginPath()
    g.moveTo(x(p.at + 0.5) - 4, 0)
    g.lineTo(x(p.at + 0.5) + 4, 0)
    g.lineTo(x(p.at + 0.5), 6)
    g.fill()
  }
  for (const line of p.lines.toReversed()) drawLine(g, line, p.window, width, per, x, y)

  if (p.brush) {
    g.fillStyle = p.colours.accent
    g.globalAlpha = 0.16
    g.fillRect(x(p.brush.from), 0, (p.brush.to - p.brush.from) * per, bottom)
    g.globalAlpha = 1
  }
}

function axis(
  g: CanvasRenderingContext2D,
  p: TrendPicture,
  x: (t: number) => number,
  width: number,
  bottom: number,
): void {
  const { from, to } = p.window
  const rough = ((to - from) / width) * 90
  const power = 10 ** Math.floor(Math.log10(Math.max(1, rough)))
  const step = Math.max(1, [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? power)
  g.fillStyle = p.colours.faint
  g.font = '10px "IBM Plex Sans Variable", system-ui, sans-serif'
  g.textAlign = 'center'
  g.textBaseline = 'top'
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
    const at = x(t + 0.5)
    if (at < 12 || at > width - 12) continue
    g.fillRect(at, bottom, 1, 3)
    g.fillText(String(t), at, bottom + 4)
  }
}

function drawLine(
  g: CanvasRenderingContext2D,
  line: Line,
  w: Window,
  width: number,
  per: number,
  x: (t: number) => number,
  y: (share: number) => number,
): void {
  const share = (v: number): number => place(v, line.range, line.scale)
  g.strokeStyle = line.colour
  g.fillStyle = line.colour
  g.lineWidth = 1.25
  g.lineJoin = 'round'
  g.setLineDash(line.dash)
  g.beginPath()
  if (per < 1.5) {
    // Many tokens a pixel: a band from the lowest to the highest, so that no spike is lost.
    const bins = Math.ceil(width)
    const { lo, hi } = envelope(line.values, w.from, w.to, bins)
    g.setLineDash([])
    for (let b = 0; b < bins; b++) {
      if (Number.isNaN(lo[b])) continue
      g.moveTo(b + 0.5, y(share(lo[b])) + 0.5)
      g.lineTo(b + 0.5, y(share(hi[b])) - 0.5)
    }
    g.globalAlpha = 0.75
    g.stroke()
    g.globalAlpha = 1
    return
  }
  let pen = false
  const first = Math.max(0, Math.floor(w.from) - 1)
  const last = Math.min(line.values.length, Math.ceil(w.to) + 1)
  for (let t = first; t < last; t++) {
    const s = share(line.values[t])
    if (Number.isNaN(s)) pen = false
    else if (pen) g.lineTo(x(t + 0.5), y(s))
    else {
      g.moveTo(x(t + 0.5), y(s))
      pen = true
    }
  }
  g.stroke()
  g.setLineDash([])
  if (per > 7) {
    for (let t = first; t < last; t++) {
      const s = share(line.values[t])
      if (!Number.isNaN(s)) g.fillRect(x(t + 0.5) - 1.5, y(s) - 1.5, 3, 3)
    }
  }
}
