/** A picture as plain shapes: written as a drawing (SVG) here, painted on a canvas by draw/drawing. */

export type Shape =
  | { kind: 'rect'; x: number; y: number; width: number; height: number; fill: string }
  | { kind: 'line'; x1: number; y1: number; x2: number; y2: number; stroke: string }
  | { kind: 'dot'; x: number; y: number; r: number; fill: string; stroke: string }
  | {
      kind: 'text'
      x: number
      y: number
      text: string
      fill: string
      size?: number
      bold?: boolean
      mono?: boolean
      end?: boolean
    }

export interface Drawing {
  width: number
  height: number
  paper: string
  shapes: Shape[]
}

export const SIZE = 12 // of text that says no other, px

export const escaped = (s: string): string =>
  s.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
const round = (v: number): string => String(Number(v.toFixed(2)))

function element(s: Shape): string {
  if (s.kind === 'rect') {
    return `<rect x="${round(s.x)}" y="${round(s.y)}" width="${round(s.width)}" height="${round(s.height)}" fill="${s.fill}"/>`
  }
  if (s.kind === 'line') {
    return `<line x1="${round(s.x1)}" y1="${round(s.y1)}" x2="${round(s.x2)}" y2="${round(s.y2)}" stroke="${s.stroke}"/>`
  }
  if (s.kind === 'dot') {
    return `<circle cx="${round(s.x)}" cy="${round(s.y)}" r="${round(s.r)}" fill="${s.fill}" stroke="${s.stroke}" stroke-width="1.5"/>`
  }
  const face = s.mono ? ' font-family="monospace"' : ''
  const bold = s.bold ? ' font-weight="600"' : ''
  const end = s.end ? ' text-anchor="end"' : ''
  return `<text x="${round(s.x)}" y="${round(s.y)}" fill="${s.fill}" font-size="${s.size ?? SIZE}"${face}${bold}${end} xml:space="preserve">${escaped(s.text)}</text>`
}

export function drawingSvg(d: Drawing): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${round(d.width)} ${round(d.height)}" width="${round(d.width)}" height="${round(d.height)}" font-family="sans-serif">`,
    `<rect width="100%" height="100%" fill="${d.paper}"/>`,
    ...d.shapes.map(element),
    '</svg>',
    '',
  ].join('\n')
}

/** A text cut to about so many px. */
export function cut(text: string, width: number, size = SIZE, mono = false): string {
  const most = Math.max(1, Math.floor(width / (size * (mono ? 0.61 : 0.55))))
  const all = [...text]
  return all.length <= most ? text : all.slice(0, most - 1).join('') + '…'
}
