import { describe, expect, it } from 'vitest'
import { cells, hiddenName, shown, shownBytes } from '../src/core/visible'

describe('what would pass unseen', () => {
  it.each([
    [0x202e, 'RLO'],
    [0x2066, 'LRI'],
    [0x2069, 'PDI'],
    [0x200b, 'ZWSP'],
    [0x200d, 'ZWJ'],
    [0xfeff, 'BOM'],
    [0xad, 'SHY'],
    [0xa0, 'NBSP'],
    [0, 'NUL'],
    [0x1b, 'ESC'],
    [0x7f, 'DEL'],
    [0xe0041, 'U+E0041'],
    [0x3164, 'U+3164'],
    [0x2800, 'U+2800'],
    [0x2003, 'U+2003'],
  ])('%i is named', (cp, name) => {
    expect(hiddenName(cp)).toBe(name)
  })

  it.each(['a', ' ', '~', 'é', 'ß', '字', '🙂', 'א', '€'])('%s is not', (c) => {
    expect(hiddenName(c.codePointAt(0)!)).toBeNull()
  })

  it('shows any text on one line', () => {
    expect(shown('a\n\tb\u202ec\ud800')).toBe('a⏎⇥b⟨RLO⟩c\ufffd')
    expect(shown('x'.repeat(100), 5)).toBe('xxxxx…')
  })

  it('counts cells', () => {
    expect([cells(0x61), cells(0x5b57), cells(0x301)]).toEqual([1, 2, 0])
  })
})

describe('the bytes of a token', () => {
  it('show their value where they are no whole character', () => {
    expect(shownBytes(Uint8Array.from([0x61, 0xe2, 0x80]))).toBe('a⟨E2⟩⟨80⟩')
    expect(shownBytes(new TextEncoder().encode('\u202e\n€'))).toBe('⟨RLO⟩⏎€')
    expect(shownBytes(new TextEncoder().encode('   '))).toBe('···')
    expect(shownBytes(new Uint8Array(500).fill(0x61), 4)).toBe('aaaa…')
  })
})
