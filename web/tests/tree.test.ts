import { describe, expect, it } from 'vitest'
import { forks, neighbour, siblings, subtree } from '../src/core/tree'
import { node } from './made'

const nodes = [
  node('a'),
  node('b', 'a', 5),
  node('c', 'a', 9),
  node('d', 'b', 7),
  node('e', 'b', 3),
  node('f', 'gone', 1),
]

describe('the tree of branches', () => {
  it('knows siblings and goes round them', () => {
    expect(siblings(nodes, 'c')).toEqual(['b', 'c'])
    expect([neighbour(nodes, 'c', 1), neighbour(nodes, 'b', -1)]).toEqual(['b', 'c'])
    expect(neighbour([node('a')], 'a', 1)).toBeNull()
  })

  it('lets an only child and its parent be neighbours', () => {
    const two = [node('a'), node('b', 'a', 2)]
    expect([neighbour(two, 'a', 1), neighbour(two, 'b', 1)]).toEqual(['b', 'a'])
  })

  it('knows what grew from a branch', () => {
    expect([...subtree(nodes, 'b')].sort()).toEqual(['b', 'd', 'e'])
  })

  it('knows where others leave a branch, in its own part and in the shared one', () => {
    expect([...forks(nodes, 'a')]).toEqual([
      [5, ['b']],
      [9, ['c']],
    ])
    // d shares tokens 0..6 with b and 0..4 with a: e leaves it at 3; c (at 9) does not touch it.
    expect([...forks(nodes, 'd')]).toEqual([[3, ['e']]])
  })
})
