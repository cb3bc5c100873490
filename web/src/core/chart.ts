/** Columns over tokens as files: comma-separated values and a drawing (SVG) of what the strip shows. */
import { escaped } from './drawing'
import { place, type Range } from './scale'
import type { Trace } from './trace'

/** Begins like a formula, maybe behind characters that do not show. */
const FORMULA = /^[\s\p{C}]*[=+\-@\t\r]/u

/** A cell of a table: quoted, and never taken for a formula by a spreadsheet. */
export function cell(text: string): string {
  const safe = FORMULA.test(text) ? `'${text}` : text
  return `"${safe.replaceAll('"', '""')}"`
}

/** One row per token from..to-1: index, id, text, and each column (empty where undefined). */
export function csv(trace: Trace, names: readonly string[], from = 0, to = trace.length): string {
  const lines = [['token', 'id', 'text', ...names].join(',')]
  for (let t = from; t < Math.min(to, trace.length); t++) {
    const text = trace.specials.has(t) ? trace.shown(t) : trace.span(t, t + 1)
    const values = names.map((n) => {
      const v = trace.value(n, t)
      return Number.isNaN(v) ? '' : String(v)
    })
    lines.push([t, trace.ids[t], cell(text), ...values].join(','))
  }
  return lines.join('\n') + '\n'
}

export interface Curve {
  title: string
  values: Float32Array
  range: Range
  scale: 'linear' | 'log'
  colour: string
  dash: readonly number[]
}

/** The strip as a drawing of its own: a line per column, each on its own scale, which its name tells. */
export function svg(
  curves: readonly Curve[],
  from: number,
  to: number,
  ink: { paper: string; faint: string; text: string },
  size = { width: 1200, height: 260 },
): string {
  const { width, height } = size
  const [left, right, top, bottom] = [10, 10, 14 + 18 * curves.length, 24]
  const x = (t: number): number => left + ((t + 0.5 - from) / Math.max(1, to - from)) * (width - left - right)
  const y = (p: number): number => height - bottom - p * (height - bottom - top)
  const round = (v: number): string => String(Number(v.toFixed(2)))
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="${ink.paper}"/>`,
    `<path d="M${left} ${y(0)}H${width - right}M${left} ${y(1)}H${width - right}" stroke="${ink.faint}" fill="none" stroke-width="0.5"/>`,
    `<text x="${left}" y="${height - 8}" fill="${ink.text}">token ${from}</text>`,
    `<text x="${width - right}" y="${height - 8}" fill="${ink.text}" text-anchor="end">${to - 1}</text>`,
  ]
  curves.forEach((c, i) => {
    let d = ''
    let pen = false
    for (let t = Math.max(0, from); t < Math.min(to, c.values.length); t++) {
      const p = place(c.values[t], c.range, c.scale)
      if (Number.isNaN(p)) {
        pen = false
        continue
      }
      d += `${pen ? 'L' : 'M'}${round(x(t))} ${round(y(p))}`
      pen = true
    }
    const dash = c.dash.length > 0 ? ` stroke-dasharray="${c.dash.join(' ')}"` : ''
    out.push(`<path d="${d}" stroke="${c.colour}" fill="none" stroke-width="1.5" stroke-linejoin="round"${dash}/>`)
    out.push(`<text x="${left}" y="${16 + 18 * i}" fill="${c.colour}">${escaped(c.title)}</text>`)
  })
  return [...out, '</svg>', ''].join('\n')
}
