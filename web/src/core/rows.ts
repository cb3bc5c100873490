/** Which rows of a long list are in the document: those in sight and a few beyond. */

/** A list up to this length is there in full. */
export const FEW = 120
const BEYOND = 10

export interface Rows {
  /** Rows `first..end-1` are drawn. */
  first: number
  end: number
  /** Heights, in px, of what stands before and after them. */
  above: number
  below: number
}

/** `count` rows of `row` px; `top` px are scrolled away and `height` px are seen. */
export function rowsInSight(count: number, row: number, top: number, height: number): Rows {
  if (count <= FEW) return { first: 0, end: count, above: 0, below: 0 }
  const last = Math.min(count, Math.ceil((top + height) / row) + BEYOND)
  const first = Math.min(last, Math.max(0, Math.floor(top / row) - BEYOND))
  return { first, end: last, above: first * row, below: (count - last) * row }
}

/** How far to scroll so that row `i` is seen in full; as little as will do. */
export function scrolledTo(i: number, row: number, top: number, height: number): number {
  if (i * row < top) return i * row
  return Math.max(top, (i + 1) * row - height)
}
