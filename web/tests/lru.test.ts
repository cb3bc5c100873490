import { describe, expect, it } from 'vitest'
import { Lru } from '../src/core/lru'

describe('a cache under a budget', () => {
  it('lets go of what was not used for longest', () => {
    const cache = new Lru<number>(10, (v) => v)
    cache.put('a', 4)
    cache.put('b', 4)
    expect(cache.get('a')).toBe(4)
    cache.put('c', 4)
    expect([cache.get('a'), cache.get('b'), cache.get('c')]).toEqual([4, undefined, 4])
    expect([cache.size, cache.count]).toEqual([8, 2])
  })

  it('counts a value that is put again once', () => {
    const cache = new Lru<number>(10, (v) => v)
    for (let i = 0; i < 5; i++) cache.put('a', 6)
    expect(cache.size).toBe(6)
    cache.put('a', 2)
    expect(cache.size).toBe(2)
    cache.drop('a')
    expect(cache.size).toBe(0)
  })

  it('keeps one value that is larger than the budget, until the next', () => {
    const cache = new Lru<number>(10, (v) => v)
    cache.put('a', 3)
    cache.put('b', 50)
    expect([cache.get('a'), cache.get('b')]).toEqual([undefined, 50])
    cache.put('c', 3)
    expect([cache.get('b'), cache.get('c')]).toEqual([undefined, 3])
  })

  it('never lets go of what has to stay', () => {
    const cache = new Lru<{ size: number; running: boolean }>(10, (v) => v.size, (v) => v.running)
    cache.put('a', { size: 8, running: true })
    cache.put('b', { size: 8, running: false })
    cache.put('c', { size: 8, running: false })
    expect([cache.get('a'), cache.get('b'), cache.get('c')].map((v) => v !== undefined)).toEqual([true, false, true])
  })
})
