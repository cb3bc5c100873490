import { describe, expect, it } from 'vitest'
import { readAddress, writeAddress } from '../src/core/address'

const nothing = { session: null, node: null, token: null, column: null, view: null, audit: null, read: null }

describe('the address', () => {
  it('comes back as it was written', () => {
    const shown = { session: 'a b&c', node: '#1', token: 0, column: 'p_ratio', view: 'why', audit: null, read: 'only' }
    expect(readAddress(writeAddress(shown))).toEqual(shown)
    expect(writeAddress(nothing)).toBe('')
    expect(readAddress('')).toEqual(nothing)
  })

  it.each(['#token=-1', '#token=1e9', '#token=abc', '#session=', '#x=y', '#%E0%A4%A', '#read=all'])(
    'takes nothing from %s',
    (hash) => {
      expect(readAddress(hash)).toEqual(nothing)
    },
  )
})
