/** A reliability diagram: what was said against what came, on held-out lines. */
export interface Bin {
  said: number
  came: number
  n: number
}

export interface Dot {
  x: number
  y: number
  /** Its area is the number of lines. */
  r: number
  bin: Bin
}

/** Dots in a square of `side`, y upwards; both axes run from 0 to the same round end. */
export function dots(bins: readonly Bin[], side: number): { dots: Dot[]; end: number } {
  const filled = bins.filter((b) => b.n > 0)
  const most = Math.max(0.05, ...filled.flatMap((b) => [b.said, b.came]))
  const end = most > 0.5 ? 1 : [0.1, 0.2, 0.5].find((e) => e >= most)!
  const largest = Math.max(1, ...filled.map((b) => b.n))
  return {
    end,
    dots: filled.map((bin) => ({
      x: (side * bin.said) / end,
      y: side - (side * bin.came) / end,
      r: 2 + 5 * Math.sqrt(bin.n / largest),
      bin,
    })),
  }
}
