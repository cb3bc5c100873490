import { describe, expect, it } from 'vitest'
import { dots } from '../src/core/reliability'

describe('a reliability diagram', () => {
  it('puts what is calibrated on the diagonal, empty bins nowhere, areas by count', () => {
    const bins = [{ said: 0.1, came: 0.1, n: 100 }, { said: 0.4, came: 0.2, n: 25 }, { said: 0, came: 0, n: 0 }] // prettier-ignore
    const made = dots(bins, 100)
    expect(made.end).toBe(0.5)
    expect(made.dots.map((d) => [d.x, d.y])).toEqual([[20, 80], [80, 60]]) // prettier-ignore
    expect(made.dots[0].r - 2).toBeCloseTo(2 * (made.dots[1].r - 2))
    expect(dots([{ said: 0.7, came: 0.9, n: 1 }], 100).end).toBe(1)
  })
})
