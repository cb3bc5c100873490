import { describe, expect, it } from 'vitest'
import { figure } from '../src/core/figures'
import { outline, type Outline } from '../src/core/outline'
import { node } from './made'

const nodes = [
  node('a'),
  node('b', 'a', 5),
  node('c', 'a', 9),
  node('d', 'b', 7),
  node('e', 'b', 3),
  node('f', 'gone', 1),
]
const plain: Outline = {
  sort: null, matches: null, closed: new Set(), unfolded: new Set(), shown: null, most: Infinity,
} // prettier-ignore

const ids = (rows: ReturnType<typeof outline>): string[] => rows.map((r) => r.key)

describe('the rows of the tree', () => {
  it('go depth first, oldest first; orphans stand as roots', () => {
    const rows = outline([...nodes].reverse(), plain)
    expect(rows.map((r) => [r.key, r.level, r.rails])).toEqual([
      ['a', 0, []],
      ['b', 1, [true]],
      ['d', 2, [true, true]],
      ['e', 2, [true, false]],
      ['c', 1, [false]],
      ['f', 0, []],
    ])
    expect(rows[1]).toMatchObject({ children: 2, open: true, place: 1, among: 2 })
  })

  it('of a line of only children do not move to the right', () => {
    const line = [node('a'), node('b', 'a', 2), node('c', 'b', 4), node('d', 'c', 6)]
    const rows = outline(line, plain)
    expect(rows.map((r) => [r.level, r.rails.length])).toEqual([[0, 0], [1, 1], [2, 1], [3, 1]])
    expect(rows.map((r) => r.kind === 'branch' && r.spine)).toEqual([false, false, true, true])
  })

  it('are sorted by a figure, best first, what is unknown last', () => {
    const turn = (id: string, p: number | null) => ({
      ...node(id, 'a', 3),
      turn_logprob: p === null ? null : Math.log(p),
    })
    const some = [node('a'), turn('x', 0.1), turn('y', null), turn('z', 0.6)]
    expect(ids(outline(some, { ...plain, sort: figure('turn') }))).toEqual(['a', 'z', 'x', 'y'])
    const low = [node('a'), { ...node('x', 'a', 1), own_surprisal: 2 }, { ...node('y', 'a', 1), own_surprisal: 1 }]
    expect(ids(outline(low, { ...plain, sort: figure('own_surprisal') }))).toEqual(['a', 'y', 'x'])
  })

  it('of many siblings show the first ones, and the shown one wherever it stands', () => {
    const many = [node('a'), ...Array.from({ length: 40 }, (_, i) => node(`b${10 + i}`, 'a', 2))]
    const rows = outline([...many, node('z', 'b49', 4)], { ...plain, most: 5, shown: 'z' })
    expect(ids(rows)).toEqual(['a', 'b10', 'b11', 'b12', 'b13', 'b14', 'b49', 'z', 'more a'])
    expect(rows.at(-1)).toMatchObject({ siblings: 34, hidden: 34 })
    const all = outline(many, { ...plain, most: 5, unfolded: new Set(['a']) })
    expect(all).toHaveLength(41)
  })

  it('hide what grew from a closed branch, and count it', () => {
    const rows = outline(nodes, { ...plain, closed: new Set(['b']) })
    expect(ids(rows)).toEqual(['a', 'b', 'c', 'f'])
    expect(rows[1]).toMatchObject({ open: false, hidden: 2 })
    // but never the branch that is shown
    expect(ids(outline(nodes, { ...plain, closed: new Set(['b']), shown: 'e' }))).toContain('e')
  })

  it('lead to what is searched for and to nothing else', () => {
    const rows = outline(nodes, { ...plain, closed: new Set(['b']), matches: (n) => n.id === 'e' })
    expect(rows.map((r) => [r.key, r.kind === 'branch' && r.dim])).toEqual([['a', true], ['b', true], ['e', false]])
  })
})
