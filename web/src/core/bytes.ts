/** Bytes first: tokens are bytes, and a character may be split between two of them. */

export function fromBase64(text: string): Uint8Array {
  const raw = atob(text)
  const bytes = new Uint8Array(raw.length)
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i)
  return bytes
}

const loose = new TextDecoder('utf-8', { ignoreBOM: true })

/** Bytes as text; what is no whole character becomes U+FFFD. */
export function toText(bytes: Uint8Array): string {
  return loose.decode(bytes)
}

export const hex = (byte: number): string => byte.toString(16).toUpperCase().padStart(2, '0')

/**
 * Length in bytes of the well-formed UTF-8 character at `at`, or 0 if there is none.
 * Overlong forms, surrogates and anything above U+10FFFF are not well formed.
 */
export function characterLength(data: Uint8Array, at: number, end: number): number {
  const a = data[at]
  if (a < 0x80) return 1
  const b = at + 1 < end ? data[at + 1] : 0
  const tail = (from: number, n: number): boolean => {
    if (at + n > end) return false
    for (let i = from; i < n; i++) if ((data[at + i] & 0xc0) !== 0x80) return false
    return true
  }
  if (a >= 0xc2 && a <= 0xdf) return tail(1, 2) ? 2 : 0
  if (a >= 0xe0 && a <= 0xef) {
    const low = a === 0xe0 ? 0xa0 : 0x80
    const high = a === 0xed ? 0x9f : 0xbf
    return b >= low && b <= high && tail(2, 3) ? 3 : 0
  }
  if (a >= 0xf0 && a <= 0xf4) {
    const low = a === 0xf0 ? 0x90 : 0x80
    const high = a === 0xf4 ? 0x8f : 0xbf
    return b >= low && b <= high && tail(2, 4) ? 4 : 0
  }
  return 0
}

/** Code point of the well-formed character of `n` bytes at `at`. */
export function codePoint(data: Uint8Array, at: number, n: number): number {
  const a = data[at]
  if (n === 1) return a
  let cp = a & (0x7f >> n)
  for (let i = 1; i < n; i++) cp = (cp << 6) | (data[at + i] & 0x3f)
  return cp
}
