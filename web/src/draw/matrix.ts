/**
 * One attention matrix on a canvas. The colours are laid down once, one pixel a weight, on a sheet
 * behind; panning and zooming only copy from it, so that 2,048 x 2,048 moves smoothly. A second
 * sheet holds the maximum of every 4 x 4 weights: seen from afar, a thin line must not fade away.
 */
import { shade, type Camera } from '../core/explain'
import { parseHex, STEPS, type Ramp } from '../core/ramp'

const COARSE = 4

export class MatrixSheet {
  private readonly fine: OffscreenCanvas
  private readonly coarse: OffscreenCanvas | null

  constructor(
    values: Float32Array,
    private readonly n: number,
    most: number,
    ramp: Ramp,
  ) {
    const colours = Uint32Array.from(ramp.fill, (hex) => {
      const [r, g, b] = parseHex(hex)
      return (255 << 24) | (b << 16) | (g << 8) | r // little-endian RGBA
    })
    const steps = new Uint8Array(n * n)
    for (let q = 0, i = 0; q < n; q++) {
      for (let k = 0; k < n; k++, i++) steps[i] = k > q ? 0 : Math.round(shade(values[i], most) * (STEPS - 1))
    }
    this.fine = sheet(steps, n, colours)
    this.coarse = n >= 256 ? sheet(shrunk(steps, n), Math.ceil(n / COARSE), colours) : null
  }

  /** Copy what the camera sees; `dpr` device pixels a CSS pixel. */
  draw(context: CanvasRenderingContext2D, camera: Camera, width: number, height: number, dpr: number): void {
    const { x, y, zoom } = camera
    context.setTransform(dpr, 0, 0, dpr, 0, 0)
    context.clearRect(0, 0, width, height)
    const far = this.coarse !== null && zoom * dpr < 0.75
    context.imageSmoothingEnabled = far || zoom * dpr < 1
    context.imageSmoothingQuality = 'high'
    const source = far ? this.coarse! : this.fine
    const per = far ? COARSE : 1
    context.drawImage(source, x / per, y / per, width / zoom / per, height / zoom / per, 0, 0, width, height)
    const end = this.n
    if ((end - x) * zoom < width) context.clearRect((end - x) * zoom, 0, width, height)
    if ((end - y) * zoom < height) context.clearRect(0, (end - y) * zoom, width, height)
  }
}

function sheet(steps: Uint8Array, n: number, colours: Uint32Array): OffscreenCanvas {
  const canvas = new OffscreenCanvas(n, n)
  const image = new ImageData(n, n)
  const pixels = new Uint32Array(image.data.buffer)
  for (let i = 0; i < pixels.length; i++) pixels[i] = colours[steps[i]]
  canvas.getContext('2d')!.putImageData(image, 0, 0)
  return canvas
}

function shrunk(steps: Uint8Array, n: number): Uint8Array {
  const m = Math.ceil(n / COARSE)
  const out = new Uint8Array(m * m)
  for (let q = 0; q < n; q++) {
    const row = Math.floor(q / COARSE) * m
    for (let k = 0; k < n; k++) {
      const at = row + Math.floor(k / COARSE)
      if (steps[q * n + k] > out[at]) out[at] = steps[q * n + k]
    }
  }
  return out
}

/** A small picture of C x C cells, drawn to fill the canvas. */
export function drawSmall(canvas: HTMLCanvasElement, values: Float32Array, cells: number, ramp: Ramp): void {
  canvas.width = canvas.height = cells
  const context = canvas.getContext('2d')!
  const image = context.createImageData(cells, cells)
  const pixels = new Uint32Array(image.data.buffer)
  for (let i = 0; i < pixels.length; i++) {
    const [r, g, b] = parseHex(ramp.fill[Math.round(shade(values[i], 1) * (STEPS - 1))])
    pixels[i] = (255 << 24) | (b << 16) | (g << 8) | r
  }
  context.putImageData(image, 0, 0)
}
