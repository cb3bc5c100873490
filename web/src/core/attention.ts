/** Attention of one token, for all layers and heads: (L, H, t) weights, and ways to reduce them. */
export interface Weights {
  layers: number
  heads: number
  length: number
  values: Float32Array
  source: string
}

/** An index, or how to reduce over all. */
export type Pick = number | 'mean' | 'max'

/** float32 (t,): heads are reduced first, then layers. Unknown entries (NaN) count as nothing. */
export function reduced(w: Weights, layer: Pick, head: Pick): Float32Array {
  const out = new Float32Array(w.length)
  const ls = typeof layer === 'number' ? [layer] : [...Array(w.layers).keys()]
  const hs = typeof head === 'number' ? [head] : [...Array(w.heads).keys()]
  for (let j = 0; j < w.length; j++) {
    let overLayers = 0
    for (const l of ls) {
      let overHeads = 0
      for (const h of hs) {
        const v = w.values[(l * w.heads + h) * w.length + j] || 0
        overHeads = head === 'max' ? Math.max(overHeads, v) : overHeads + v
      }
      if (head === 'mean') overHeads /= hs.length
      overLayers = layer === 'max' ? Math.max(overLayers, overHeads) : overLayers + overHeads
    }
    out[j] = layer === 'mean' ? overLayers / ls.length : overLayers
  }
  return out
}

/**
 * (L, H): the heaviest weight of each head past the first token (the sink). Near 1 the head looks
 * at one token, near 0 at nothing in particular.
 */
export function pointed(w: Weights): Float32Array {
  const out = new Float32Array(w.layers * w.heads)
  for (let i = 0; i < out.length; i++) {
    for (let j = 1; j < w.length; j++) out[i] = Math.max(out[i], w.values[i * w.length + j] || 0)
  }
  return out
}

/** The n heaviest places, heaviest first; nothing of no weight. */
export function heaviest(row: Float32Array, n: number): { token: number; weight: number }[] {
  return Array.from(row, (weight, token) => ({ token, weight }))
    .filter((e) => e.weight > 0)
    .sort((a, b) => b.weight - a.weight || a.token - b.token)
    .slice(0, n)
}
