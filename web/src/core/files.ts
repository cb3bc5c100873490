/** Tables and drawings of the page as files of their own. */
import { cell } from './chart'

const text = (v: unknown): string =>
  v === null || v === undefined ? '' : typeof v === 'number' ? String(v) : cell(typeof v === 'string' ? v : JSON.stringify(v))

/** Rows of the wire, a column per name in the order of its first appearance. */
export function rowsCsv(rows: readonly Readonly<Record<string, unknown>>[]): string {
  const names = [...new Set(rows.flatMap((r) => Object.keys(r)))]
  const lines = rows.map((r) => names.map((n) => text(r[n])).join(','))
  return [names.map(cell).join(','), ...lines, ''].join('\n')
}

const KEPT = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'opacity', 'font-size', 'font-family', 'text-anchor']

/** A drawing of the page as it looks now: what style sheets say stands in its own elements. */
export function drawn(svg: SVGSVGElement, paper: string): string {
  const copy = svg.cloneNode(true) as SVGSVGElement
  const [seen, made] = [[svg, ...svg.querySelectorAll('*')], [copy, ...copy.querySelectorAll('*')]]
  seen.forEach((e, i) => {
    const css = getComputedStyle(e)
    for (const name of KEPT) {
      const value = css.getPropertyValue(name)
      if (value) made[i].setAttribute(name, value)
    }
    made[i].removeAttribute('class')
  })
  const [x, y, w, h] = (copy.getAttribute('viewBox') ?? '0 0 300 150').split(/[\s,]+/)
  const ground = document.createElementNS('http://www.w3.org/2000/svg', 'rect')
  for (const [name, value] of Object.entries({ x, y, width: w, height: h, fill: paper })) ground.setAttribute(name, value)
  copy.prepend(ground)
  copy.setAttribute('width', w)
  copy.setAttribute('height', h)
  return new XMLSerializer().serializeToString(copy)
}
