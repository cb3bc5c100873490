/** Characters that a reader would not see, or would be fooled by, and the names we show for them. */
import { characterLength, codePoint, hex } from './bytes'

const C0 =
  'NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US'.split(
    ' ',
  )

const NAMES = new Map<number, string>([
  [0x7f, 'DEL'],
  [0x85, 'NEL'],
  [0xa0, 'NBSP'],
  [0xad, 'SHY'],
  [0x61c, 'ALM'],
  [0x200b, 'ZWSP'],
  [0x200c, 'ZWNJ'],
  [0x200d, 'ZWJ'],
  [0x200e, 'LRM'],
  [0x200f, 'RLM'],
  [0x2028, 'LSEP'],
  [0x2029, 'PSEP'],
  [0x202a, 'LRE'],
  [0x202b, 'RLE'],
  [0x202c, 'PDF'],
  [0x202d, 'LRO'],
  [0x202e, 'RLO'],
  [0x2060, 'WJ'],
  [0x2066, 'LRI'],
  [0x2067, 'RLI'],
  [0x2068, 'FSI'],
  [0x2069, 'PDI'],
  [0xfeff, 'BOM'],
])

// Everything that draws nothing or moves what stands beside it: controls, format characters
// (bidi, zero width, tags), separators but the plain space, fillers and the blank braille cell.
const UNSEEN = /^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]$/u
const ODD_SPACE = /^\p{Zs}$/u
const WIDE =
  /^[\p{Emoji_Presentation}\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]$/u
const MARK = /^\p{M}$/u

/** The name to show for a code point that must never pass unseen; null for an ordinary one. */
export function hiddenName(cp: number): string | null {
  if (cp >= 0x20 && cp < 0x7f) return null
  if (cp < 0x20) return C0[cp]
  const c = String.fromCodePoint(cp)
  if (!UNSEEN.test(c) && !ODD_SPACE.test(c)) return null
  return NAMES.get(cp) ?? 'U+' + cp.toString(16).toUpperCase().padStart(4, '0')
}

/** Cells that a character takes in a monospaced face: 0, 1 or 2. */
export function cells(cp: number): number {
  if (cp < 0x300) return 1
  const c = String.fromCodePoint(cp)
  return WIDE.test(c) ? 2 : MARK.test(c) ? 0 : 1
}

/** Any text on one line with nothing hidden: for lists, titles and what is read aloud. */
export function shown(text: string, limit = 80): string {
  let out = ''
  for (const c of text) {
    const cp = c.codePointAt(0)!
    if (c === '\n') out += '⏎'
    else if (c === '\t') out += '⇥'
    else if (cp >= 0xd800 && cp <= 0xdfff) out += '\ufffd'
    else {
      const name = hiddenName(cp)
      out += name === null ? c : `⟨${name}⟩`
    }
    if (out.length > limit) return out.slice(0, limit) + '…'
  }
  return out
}

/** The bytes of a token on one line: bytes that are no whole character by their value. */
export function shownBytes(bytes: Uint8Array, limit = 80): string {
  let out = ''
  for (let at = 0; at < bytes.length && out.length <= limit; ) {
    const n = characterLength(bytes, at, bytes.length)
    out +=
      n === 0 ? `⟨${hex(bytes[at])}⟩` : shown(String.fromCodePoint(codePoint(bytes, at, n)), limit)
    at += Math.max(1, n)
  }
  // A token of nothing but spaces would look like none at all.
  if (/^ +$/.test(out)) out = out.replaceAll(' ', '·')
  return out.length > limit ? out.slice(0, limit) + '…' : out
}
