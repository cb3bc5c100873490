import { describe, expect, it } from 'vitest'
import { characterLength, codePoint, fromBase64, toText } from '../src/core/bytes'
import { base64, random } from './made'

describe('bytes', () => {
  it('come back from base64, all of them', () => {
    const all = Uint8Array.from({ length: 256 }, (_, i) => i)
    expect(fromBase64(base64(all))).toEqual(all)
  })

  it('keep a byte order mark', () => {
    expect(toText(Uint8Array.from([0xef, 0xbb, 0xbf, 0x61]))).toBe('\ufeffa')
  })

  it('are cut into the characters that the platform sees, whatever they are', () => {
    const next = random(7)
    for (let round = 0; round < 400; round++) {
      const data = Uint8Array.from({ length: 24 }, () =>
        next() < 0.5 ? Math.floor(next() * 256) : 0x80 + Math.floor(next() * 0x78),
      )
      let text = ''
      for (let at = 0; at < data.length; ) {
        const n = characterLength(data, at, data.length)
        text += n === 0 ? '\ufffd' : String.fromCodePoint(codePoint(data, at, n))
        at += Math.max(1, n)
      }
      // The platform may join several bad bytes into one mark; what is well formed must agree.
      const squeeze = (s: string): string => s.replace(/\ufffd+/g, '\ufffd')
      expect(squeeze(text)).toBe(squeeze(toText(data)))
    }
  })

  it('never form a surrogate, an overlong form or one above the last', () => {
    for (const bytes of [
      [0xed, 0xa0, 0x80],
      [0xc0, 0xaf],
      [0xe0, 0x80, 0xaf],
      [0xf4, 0x90, 0x80, 0x80],
    ]) {
      expect(characterLength(Uint8Array.from(bytes), 0, bytes.length)).toBe(0)
    }
  })
})
