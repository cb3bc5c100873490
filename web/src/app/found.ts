/** Entries whose text holds all letters of the query in order; tight and early matches first. */
export function found<T>(entries: T[], query: string, text: (entry: T) => string): T[] {
  const q = query.trim().toLowerCase()
  if (q === '') return entries
  const scored: { entry: T; score: number; i: number }[] = []
  entries.forEach((entry, i) => {
    const score = match(text(entry).toLowerCase(), q)
    if (score !== null) scored.push({ entry, score, i })
  })
  return scored.sort((a, b) => a.score - b.score || a.i - b.i).map((s) => s.entry)
}

function match(text: string, q: string): number | null {
  const whole = text.indexOf(q)
  if (whole >= 0) return whole / 100
  let at = -1
  let gaps = 0
  for (const c of q) {
    if (c === ' ') continue
    const next = text.indexOf(c, at + 1)
    if (next < 0) return null
    if (at >= 0) gaps += next - at - 1
    at = next
  }
  return 10 + gaps
}
