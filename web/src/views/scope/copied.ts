import type { Trace } from '../../core/trace'

/** Copy takes the true text of the selected tokens, not what is drawn for them. */
export function copied(
  e: ClipboardEvent,
  trace: Trace,
  range: { first: number; last: number } | null,
  token: number | null,
): void {
  const first = range?.first ?? token
  if (first === null || !e.clipboardData) return
  e.clipboardData.setData('text/plain', trace.span(first, (range?.last ?? first) + 1))
  e.preventDefault()
}
