/** Pictures that are kept as files: every mass, branch and reason stands in them, hostile text as text. */
import { describe, expect, it } from 'vitest'
import type { ExploreState } from '../src/api/explore'
import type { Attribution } from '../src/api/explain'
import { cut, drawingSvg } from '../src/core/drawing'
import { outcomeRows, outcomesDrawing, reasonsDrawing, treeDrawing, treeRows } from '../src/core/pictures'
import { node } from './made'

const ink = (name: string): string => `[${name}]`
const outcome = (label: string, mass: number) => ({ name: label, label, mass, low: mass, high: mass, draws: 0, branches: [0] })

describe('pictures', () => {
  it('draws outcomes to their masses, what is unexplored among them', () => {
    const state = { outcomes: [outcome('<b>', 0.5), outcome('c', 0.2), outcome('d', 0.005)], unexplored: 0.295 } as unknown as ExploreState
    const made = outcomesDrawing(state, 'of it', ink)
    const bars = made.shapes.filter((s) => s.kind === 'rect' && s.height === 28) as { width: number; fill: string }[]
    expect(bars.map((b) => Math.round(b.width + 1))).toEqual([436, 174, 4, 257])
    expect(bars.map((b) => b.fill)).toEqual(['[--series-1]', '[--series-2]', '[--ink-3]', '[--well]'])
    const svg = drawingSvg(made)
    expect(svg).toContain('&lt;b&gt;')
    expect(svg).not.toContain('<b>')
    expect(outcomeRows(state).map((r) => r.mass)).toEqual([0.5, 0.2, 0.005, 0.295])
  })
  it('draws reasons to the side that they speak for', () => {
    const reasons = [
      { start: 0, end: 2, text: 'up', line: 1, drop: 2, attribution: 0, kind: '' },
      { start: 2, end: 4, text: 'down', line: 2, drop: -1, attribution: 0, kind: '' },
    ]
    const made = reasonsDrawing({ reasons, token: 'a', contrast: null } as unknown as Attribution, ink)
    const [a, b] = made.shapes.filter((s) => s.kind === 'rect') as { x: number; width: number }[]
    expect([a.x, a.width]).toEqual([600, 200])
    expect([b.x, b.width]).toEqual([500, 100])
  })
  it('draws every branch on a row of its own, to the right of its parent', () => {
    const nodes = [node('1'), node('2', '1', 3), node('3', '1', 5), node('4', '3', 6)]
    const made = treeDrawing(nodes, (n) => (n.id === '4' ? 'red' : null), 'tree', ink)
    const dots = made.shapes.filter((s) => s.kind === 'dot') as { x: number; y: number; fill: string }[]
    expect(dots.map((d) => d.y - dots[0].y)).toEqual([0, 24, 48, 72])
    expect(dots[1].x).toBeGreaterThan(dots[0].x)
    expect(dots[3].fill).toBe('[red]')
    expect(treeRows(nodes).map((r) => r.parent)).toEqual([null, '1', '1', '3'])
  })
  it('cuts by characters, not in the middle of one', () => {
    expect(cut('𝛼𝛽𝛾𝛿', 20, 12)).toBe('𝛼𝛽…')
    expect(cut('short', 400)).toBe('short')
  })
})
