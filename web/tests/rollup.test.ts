/** The page's roll-ups against the server's: the fixture is written by a test in Python. */
import { describe, expect, it } from 'vitest'
import { over, type Aggregate } from '../src/core/rollup'
import { Syntax } from '../src/core/syntax'
import made from './rollup.json'

type Row = Record<Aggregate | 'std' | 'region' | 'count', number>
const fixture = made as unknown as {
  structure: ConstructorParameters<typeof Syntax>[0]
  values: (number | null)[]
  rows: Record<string, Row[]>
}
const syntax = new Syntax(fixture.structure)
const values = Float32Array.from(fixture.values, (v) => v ?? NaN)
const HOWS: Aggregate[] = ['mean', 'min', 'max', 'sum', 'top']

describe('roll-ups', () => {
  it.each(Object.keys(fixture.rows))('agree with the server at level %s', (level) => {
    for (const row of fixture.rows[level]) {
      for (const how of HOWS) {
        const found = over(syntax, values, [syntax.cells(row.region)], 0, how)
        expect(found.value / row[how]).toBeCloseTo(1, 9)
        expect(found.count).toBe(row.count)
        // the values are float32 near 10,000 with a spread of 0.01
        expect(Math.abs(found.std - row.std)).toBeLessThan(1e-7)
      }
    }
  })
})
