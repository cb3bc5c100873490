/**
 * Tokens laid into rows of a monospaced surface.
 *
 * A row is one line of the text, or a part of one that is wrapped at `width` cells, so every row
 * has the same height and only the rows in sight need to be drawn. A token that holds a line break
 * has pieces in two rows; a character split between tokens is drawn in the token where it starts,
 * and the others show their bytes.
 */
import { cells, hiddenName } from './visible'
import { characterLength, codePoint, hex } from './bytes'
import type { Trace } from './trace'

export type PieceKind =
  | 'text' // ordinary characters, spaces among them
  | 'tab'
  | 'break' // the line break itself, one cell wide so that it can be pointed at
  | 'hidden' // a character that draws nothing, shown by its name
  | 'special' // a token that has no bytes in the text
  | 'byte' // bytes that are no whole character here
  | 'empty' // an ordinary token without bytes

export interface Piece {
  token: number
  kind: PieceKind
  text: string
  cells: number
  /** Whether the token starts with this piece: it stands for the token wherever one must. */
  leads: boolean
}

export interface Row {
  index: number
  /** Line of the text, from 1; null where a wrapped line goes on. */
  line: number | null
  pieces: Piece[]
}

const TAB = 4
const LF = 10
const CR = 13

export class Layout {
  rows: Row[] = []
  private rowOf: number[] = []
  /** Where the last row starts, so that laying can go on from there. */
  private resume = { row: 0, token: 0, byte: 0, line: 1 as number | null, lines: 1 }

  constructor(
    private readonly trace: Trace,
    private readonly width: number,
  ) {
    this.extend()
  }

  /** Lay what the trace has grown by. Rows that did not change stay the same objects. */
  extend(): void {
    const { trace } = this
    const { token, byte, line } = this.resume
    let lines = this.resume.lines
    this.rows.length = this.resume.row
    this.rowOf.length = Math.min(this.rowOf.length, token + 1)
    let row: Row = { index: this.rows.length, line, pieces: [] }
    let used = 0
    const end = trace.offsets[trace.length]

    const nextRow = (number: number | null, t: number, at: number): void => {
      this.rows.push(row)
      row = { index: this.rows.length, line: number, pieces: [] }
      used = 0
      // Near the end a character may still be missing bytes: what is laid of it now is laid anew.
      if (number === null && at > end - 4) return
      this.resume = { row: row.index, token: t, byte: at, line: number, lines }
    }
    const put = (kind: PieceKind, text: string, size: number, t: number, at: number): void => {
      if (used + size > this.width && used > 0 && kind !== 'break') nextRow(null, t, at)
      if (this.rowOf[t] === undefined) this.rowOf[t] = row.index
      const leads = kind === 'special' || kind === 'empty' || at === trace.offsets[t]
      row.pieces.push({ token: t, kind, text, cells: size, leads })
      used += size
    }

    let at = byte
    for (let t = token; t < trace.length; t++) {
      const stop = trace.offsets[t + 1]
      const from = trace.offsets[t]
      const label = trace.specials.get(t)
      if (label !== undefined) put('special', label, label.length + 2, t, at)
      else if (from === stop) put('empty', '∅', 2, t, at)
      // The rest of a character that began in an earlier token.
      if (t > token) {
        for (let b = from; b < Math.min(at, stop); b++) put('byte', hex(trace.data[b]), 3, t, b)
      }
      at = Math.max(at, from)
      let run = ''
      let runCells = 0
      let runAt = at
      const flush = (): void => {
        if (run === '') return
        put('text', run, runCells, t, runAt)
        run = ''
        runCells = 0
      }
      while (at < stop) {
        const n = characterLength(trace.data, at, end)
        const cp = n === 0 ? -1 : codePoint(trace.data, at, n)
        if (cp === LF) {
          flush()
          put('break', '⏎', 1, t, at)
          at += 1
          lines += 1
          nextRow(lines, t, at)
          if (at >= stop) this.resume.token = t + 1
          continue
        }
        if (cp === CR && trace.data[at + 1] === LF && at + 1 < end) {
          flush()
          put('break', '␍', 1, t, at)
          at += 1
          continue
        }
        const name = cp < 0 ? null : hiddenName(cp)
        if (cp === 9) {
          flush()
          const size = TAB - (used % TAB)
          put('tab', '\t', size, t, at)
        } else if (n === 0) {
          flush()
          put('byte', hex(trace.data[at]), 3, t, at)
        } else if (name !== null) {
          flush()
          put('hidden', name, name.length + 1, t, at)
        } else {
          const size = cells(cp)
          if (used + runCells + size > this.width && used + runCells > 0) {
            flush()
            nextRow(null, t, at)
          }
          if (run === '') runAt = at
          run += String.fromCodePoint(cp)
          runCells += size
        }
        at += Math.max(1, n)
      }
      flush()
    }
    this.rows.push(row)
  }

  /** Index of the first row that shows token t. */
  rowOfToken(t: number): number {
    return this.rowOf[t] ?? Math.max(0, this.rows.length - 1)
  }

  /** Cell where token t starts in its first row. */
  cellOfToken(t: number): number {
    let cell = 0
    for (const piece of this.rows[this.rowOfToken(t)]?.pieces ?? []) {
      if (piece.token >= t) return cell
      cell += piece.cells
    }
    return cell
  }

  /** The token nearest to `cell` in row `index`; -1 in a row without any. */
  tokenAt(index: number, cell: number): number {
    let at = 0
    let best = -1
    for (const piece of this.rows[index]?.pieces ?? []) {
      best = piece.token
      at += piece.cells
      if (at > cell) break
    }
    return best
  }
}
