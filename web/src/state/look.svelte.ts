/** How things are shown: theme, colour column and its range, panels. None of it changes a trace. */
import { ramp, type Ramp, type RampName, type Theme } from '../core/ramp'
import { plain, rangeOf, type Range, type Spec } from '../core/scale'
import { model } from './model.svelte'
import { keep, recall } from './keep'

export type ThemeChoice = 'system' | Theme
export type Panel = 'left' | 'right' | 'trend'

const dark = globalThis.matchMedia?.('(prefers-color-scheme: dark)')

class Look {
  choice = $state<ThemeChoice>(recall<ThemeChoice>('theme', 'system'))
  private systemDark = $state(dark?.matches ?? false)
  /** The theme in force. */
  theme: Theme = $derived(
    this.choice === 'system' ? (this.systemDark ? 'dark' : 'light') : this.choice,
  )

  /** The column that colours the code. */
  column = $state(recall('column', 'surprisal'))
  /** Ends of scales, set once a session (or by hand) and then kept, so that branches compare. */
  ranges = $state<Record<string, Range>>({})
  whitespace = $state(recall('whitespace', false))
  /** Prompt tokens have numbers too, but stay in quiet ink unless asked. */
  colourPrompt = $state(recall('colourPrompt', false))
  panels = $state<Record<Panel, boolean>>({
    left: true,
    right: true,
    trend: true,
    ...recall<Partial<Record<Panel, boolean>>>('panels', {}),
  })
  /** Columns of the trend strip, in the order of their line colours; at most five. */
  trend = $state<string[]>(recall('trend', ['surprisal', 'entropy']))

  constructor() {
    dark?.addEventListener('change', (e) => (this.systemDark = e.matches))
  }

  spec(column: string): Spec {
    return model.columns.get(column) ?? plain(column)
  }

  /** Range of a column's scale; until it is fixed, what the spec says alone. */
  range(column: string): Range {
    return this.ranges[column] ?? rangeOf(this.spec(column), [])
  }

  /**
   * Fix the range from the first trace that has numbers. While `growing`, an open upper end may
   * still rise (in round steps); afterwards only `setRange` changes it.
   */
  fixRange(column: string, values: Float32Array, growing: boolean): void {
    const known = this.ranges[column]
    const spec = this.spec(column)
    if (known && (!growing || (spec.lo !== null && spec.hi !== null))) return
    const fresh = rangeOf(spec, values)
    if (known && fresh.hi <= known.hi && fresh.lo >= known.lo) return
    const grown = known
      ? { lo: Math.min(known.lo, fresh.lo), hi: Math.max(known.hi, fresh.hi) }
      : fresh
    this.ranges = { ...this.ranges, [column]: grown }
  }

  setRange(column: string, range: Range | null): void {
    const rest = Object.fromEntries(Object.entries(this.ranges).filter(([name]) => name !== column))
    this.ranges = range ? { ...rest, [column]: range } : rest
  }

  forgetRanges(): void {
    this.ranges = {}
  }

  ramp(name: RampName): Ramp {
    return ramp(name, this.theme)
  }

  nextTheme(): void {
    this.choice = this.theme === 'dark' ? 'light' : 'dark'
  }

  toggle(panel: Panel): void {
    this.panels = { ...this.panels, [panel]: !this.panels[panel] }
  }
}

export const look = new Look()

/** Follow the choices: the theme onto the document, the rest into the browser's memory. */
export function followLook(): void {
  $effect.pre(() => {
    document.documentElement.dataset.theme = look.theme
  })
  $effect(() => keep('theme', look.choice))
  $effect(() => keep('column', look.column))
  $effect(() => keep('whitespace', look.whitespace))
  $effect(() => keep('colourPrompt', look.colourPrompt))
  $effect(() => keep('panels', look.panels))
  $effect(() => keep('trend', look.trend))
}
