/** Two sequences beside each other: which elements both have, in order (longest common subsequence). */

export interface Stretch {
  /** Both say the same here: elements a..a+n-1 and b..b+n-1; else n is 0 on neither side known. */
  same: boolean
  a: [first: number, end: number]
  b: [first: number, end: number]
}

const MOST = 4_000_000 // cells of the table; beyond it what is between equal ends counts as changed

/** Stretches that are the same and stretches that differ, alternating, covering both wholly. */
export function stretches(a: readonly string[], b: readonly string[]): Stretch[] {
  let head = 0
  while (head < a.length && head < b.length && a[head] === b[head]) head++
  let tail = 0
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail++
  const pairs: [number, number][] = []
  for (let i = 0; i < head; i++) pairs.push([i, i])
  const [x, y] = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)]
  if (x.length * y.length <= MOST) for (const [i, j] of common(x, y)) pairs.push([head + i, head + j])
  for (let i = tail; i > 0; i--) pairs.push([a.length - i, b.length - i])
  return joined(pairs, a.length, b.length)
}

function common(x: readonly string[], y: readonly string[]): [number, number][] {
  const w = y.length + 1
  const best = new Uint16Array((x.length + 1) * w)
  for (let i = x.length - 1; i >= 0; i--) {
    for (let j = y.length - 1; j >= 0; j--) {
      best[i * w + j] =
        x[i] === y[j] ? best[(i + 1) * w + j + 1] + 1 : Math.max(best[(i + 1) * w + j], best[i * w + j + 1])
    }
  }
  const out: [number, number][] = []
  for (let i = 0, j = 0; i < x.length && j < y.length; ) {
    if (x[i] === y[j]) out.push([i++, j++])
    else if (best[(i + 1) * w + j] >= best[i * w + j + 1]) i++
    else j++
  }
  return out
}

function joined(pairs: [number, number][], n: number, m: number): Stretch[] {
  const out: Stretch[] = []
  let [i, j] = [0, 0]
  const differ = (to: number, too: number): void => {
    if (to > i || too > j) out.push({ same: false, a: [i, to], b: [j, too] })
  }
  for (const [p, q] of pairs) {
    const last = out.at(-1)
    if (p === i && q === j && last?.same) {
      last.a[1] = p + 1
      last.b[1] = q + 1
    } else {
      differ(p, q)
      out.push({ same: true, a: [p, p + 1], b: [q, q + 1] })
    }
    ;[i, j] = [p + 1, q + 1]
  }
  differ(n, m)
  return out
}
