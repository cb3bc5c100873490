/** Numbers as a reader wants them: three figures, a true minus, nothing left undefined unsaid. */
const MINUS = '−'

export function number(v: number | null | undefined, figures = 3): string {
  if (v === null || v === undefined || Number.isNaN(v)) return '–'
  if (v === Infinity) return '∞'
  if (v === -Infinity) return MINUS + '∞'
  const a = Math.abs(v)
  const s =
    a === 0
      ? '0'
      : a >= 1e6 || a < 1e-3
        ? a.toExponential(1).replace('e+', 'e').replace('-', MINUS)
        : a >= 10 ** (figures - 1)
          ? String(Math.round(a))
          : String(Number(a.toPrecision(figures)))
  return (v < 0 ? MINUS : '') + s
}

/** Probability in 0..1: small ones by their power, ones near 1 without being rounded up to it. */
export function probability(p: number): string {
  if (Number.isNaN(p)) return '–'
  if (p === 0) return '0'
  if (p >= 0.9995 && p < 1) return '>.999'
  if (p >= 1) return '1'
  if (p < 0.0005) return p.toExponential(0).replace('-', MINUS)
  return p.toFixed(3).replace(/^0/, '')
}

export function count(n: number): string {
  return n.toLocaleString('en-US').replaceAll(',', '\u2009')
}

export function parameters(n: number): string {
  if (n >= 1e9) return `${number(n / 1e9)}B`
  if (n >= 1e6) return `${number(n / 1e6)}M`
  if (n >= 1e3) return `${number(n / 1e3)}k`
  return String(n)
}

/** A size in bytes for a reader: 1.2 MB. */
export function bytes(n: number): string {
  return n < 1e6 ? `${Math.ceil(n / 1e3)} kB` : `${(n / 1e6).toFixed(1)} MB`
}

export function plural(n: number, one: string, many = one + 's'): string {
  return `${count(n)} ${n === 1 ? one : many}`
}

/** How long ago, coarsely. */
export function ago(iso: string, now: number): string {
  const s = Math.max(0, (now - Date.parse(iso)) / 1000)
  if (Number.isNaN(s)) return ''
  if (s < 60) return 'just now'
  if (s < 3600) return `${Math.floor(s / 60)} min ago`
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`
  if (s < 7 * 86400) return plural(Math.floor(s / 86400), 'day') + ' ago'
  return iso.slice(0, 10)
}

/** A unit as it is printed: `nats^2` with a raised two. */
export function unitName(unit: string): string {
  return unit.replace('^2', '²').replace('^3', '³')
}

/** The error bar of a column in words: ± 0.11 nats in bfloat16; null where there is none. */
export function errorBar(error: number | undefined, unit: string, dtype: string): string | null {
  if (!error) return null
  const named = unitName(unit)
  return `± ${number(error, 2)}${named === '' ? '' : ` ${named}`} in ${dtype}`
}

/** A message as a sentence. */
export function sentence(message: string): string {
  const s = message.trim()
  if (s === '') return ''
  return s[0].toUpperCase() + s.slice(1) + (/[.!?…]$/.test(s) ? '' : '.')
}
