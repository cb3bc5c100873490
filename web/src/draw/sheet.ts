/**
 * The code surface: only the rows in sight exist as elements, each at its own height.
 *
 * Tokens are hostile text: every piece is a text node. Colours are set through the CSSOM.
 */
import type { Severity } from '../core/findings'
import type { Piece, Row } from '../core/layout'

export interface Ink {
  fill: string
  ink: string
}

export interface Marks {
  first: number | null
  last: number | null
  /** Where this branch leaves its parent; null for a root. */
  at: number | null
  /** Tokens where other branches leave this one. */
  forks: ReadonlyMap<number, unknown>
  nPrompt: number
  /** Tokens at which a choice changed what came of it -> how much, 0..1. */
  changes?: ReadonlyMap<number, number>
  /** Tokens in which a check detected something -> how severe it calls it. */
  findings?: ReadonlyMap<number, Severity>
}

export interface Face {
  /** Colour behind token t, null for none. */
  paint: (t: number) => Ink | null
  marks: Marks
  whitespace: boolean
  /** What is read aloud for token t. */
  say: (t: number) => string
}

const SPACES = /( +)/

export class Sheet {
  private hovered: number | null = null
  private elements = new Map<number, { row: Row; element: HTMLElement }>()

  constructor(
    private readonly host: HTMLElement,
    private readonly rowHeight: number,
  ) {}

  /** Show rows first..last. Rows that are unchanged and still in sight keep their elements. */
  show(rows: Row[], first: number, last: number, face: Face, fresh: boolean): void {
    for (const [index, { row, element }] of this.elements) {
      if (index < first || index >= last || rows[index] !== row || fresh) {
        element.remove()
        this.elements.delete(index)
      }
    }
    let before: ChildNode | null = this.host.firstChild
    for (let index = first; index < last; index++) {
      const known = this.elements.get(index)
      if (known) {
        before = known.element.nextSibling
        continue
      }
      const element = this.make(rows[index], face)
      this.host.insertBefore(element, before)
      this.elements.set(index, { row: rows[index], element })
    }
  }

  /** Colours and marks anew on what is in sight. */
  dress(face: Face): void {
    for (const { row, element } of this.elements.values()) {
      const spans = element.querySelectorAll<HTMLElement>('[data-t]')
      row.pieces.forEach((piece, i) => this.dressPiece(spans[i], piece, face))
    }
  }

  /** Mark the token under the pointer: this happens often, so nothing else is touched. */
  hover(t: number | null): void {
    if (t === this.hovered) return
    for (const e of this.all(this.hovered)) e.classList.remove('hovered')
    for (const e of this.all(t)) e.classList.add('hovered')
    this.hovered = t
  }

  private all(t: number | null): Iterable<Element> {
    return t === null ? [] : this.host.querySelectorAll(`[data-t="${t}"]`)
  }

  /** The first element of token t, if it is in sight. */
  find(t: number): HTMLElement | null {
    return this.host.querySelector<HTMLElement>(`[data-t="${t}"]`)
  }

  private make(row: Row, face: Face): HTMLElement {
    const element = document.createElement('div')
    element.className = row.line === null ? 'row more' : 'row'
    element.style.top = `${row.index * this.rowHeight}px`
    const number = document.createElement('span')
    number.className = 'no'
    number.setAttribute('aria-hidden', 'true')
    number.textContent = row.line === null ? '↳' : String(row.line)
    element.append(number)
    for (const piece of row.pieces) {
      const span = this.piece(piece, face)
      this.dressPiece(span, piece, face)
      element.append(span)
    }
    return element
  }

  private piece(piece: Piece, face: Face): HTMLElement {
    const span = document.createElement('span')
    span.dataset.t = String(piece.token)
    if (piece.leads) {
      span.setAttribute('role', 'option')
      span.id = `token-${piece.token}`
    } else {
      span.setAttribute('aria-hidden', 'true')
    }
    if (piece.kind === 'tab') {
      span.textContent = (face.whitespace ? '→' : ' ') + ' '.repeat(piece.cells - 1)
    } else if (piece.kind === 'break') {
      span.textContent = face.whitespace ? piece.text : ' '
    } else if (piece.kind === 'text' && face.whitespace && piece.text.includes(' ')) {
      for (const part of piece.text.split(SPACES)) {
        if (part === '') continue
        if (!part.startsWith(' ')) {
          span.append(part)
          continue
        }
        const dots = document.createElement('i') // spaces still; the dots are drawn behind them
        dots.textContent = part
        span.append(dots)
      }
    } else {
      span.textContent = piece.text
    }
    return span
  }

  private dressPiece(span: HTMLElement, piece: Piece, face: Face): void {
    const t = piece.token
    const { first, last, at, forks, nPrompt, changes, findings } = face.marks
    const chosen = first !== null && last !== null && t >= first && t <= last
    const names = ['tk', piece.kind]
    if (t < nPrompt) names.push('prompt')
    if (chosen) names.push(first === last ? 'chosen' : 'within')
    if (t === this.hovered) names.push('hovered')
    if (t === at) names.push('here')
    if (forks.has(t)) names.push('fork')
    const change = changes?.get(t) ?? 0
    if (change > 0) names.push('changes')
    const finding = findings?.get(t)
    if (finding) names.push('found', finding)
    const size = change > 0 ? change.toFixed(2) : ''
    if ((span.dataset.change ?? '') !== size) {
      span.dataset.change = size
      span.style.setProperty('--change', size)
    }
    const name = names.join(' ')
    if (span.className !== name) span.className = name
    if (span.id) {
      const selected = String(chosen)
      if (span.getAttribute('aria-selected') !== selected) span.setAttribute('aria-selected', selected)
      // What is read aloud changes when the checks answer, not while rows scroll by.
      if (span.dataset.found !== (finding ?? '')) {
        span.dataset.found = finding ?? ''
        span.setAttribute('aria-label', face.say(t))
      }
    }
    const ink = face.paint(t)
    const fill = ink?.fill ?? ''
    if (span.dataset.fill !== fill) {
      span.dataset.fill = fill
      span.style.backgroundColor = fill
      span.style.color = ink?.ink ?? ''
    }
  }
}
