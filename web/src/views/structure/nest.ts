/** Marks, on the token elements in sight, how deep each lies among the regions pointed at. */
import type { Syntax } from '../../core/syntax'

const DEEPEST = 4

/**
 * `data-nest` 1..4 on every token element inside the four innermost regions around `pointed` that
 * have one of the level bits; 4 is the innermost. The file itself is not marked.
 */
export function nest(host: HTMLElement, syntax: Syntax | null, pointed: number | null, bits: number): void {
  const around =
    syntax && pointed !== null && pointed < syntax.length
      ? syntax.path(pointed).filter((r) => r > 0 && syntax.is(r, bits) && syntax.tokens(r))
      : []
  const spans = around.slice(-DEEPEST).map((r) => syntax!.tokens(r)!)
  const offset = DEEPEST - spans.length
  for (const element of host.querySelectorAll<HTMLElement>('.tk[data-t]')) {
    const t = Number(element.dataset.t)
    let depth = 0
    spans.forEach((span, i) => {
      if (span.first <= t && t <= span.last) depth = i + 1
    })
    if (depth > 0) element.dataset.nest = String(depth + offset)
    else delete element.dataset.nest
  }
}
