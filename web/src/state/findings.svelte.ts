/** What the checks find in the branch that is shown, live, and the risk mass of one on request. */
import { evidenceApi, type Finding, type FindingsInfo, type Risk } from '../api/evidence'
import { findingKey, findingsAt, FINDING, marksOf, nextFinding, type Severity } from '../core/findings'
import { Lru } from '../core/lru'
import type { Ink } from '../draw/sheet'
import { focus } from './focus.svelte'
import { look } from './look.svelte'

const KEPT = 64 // branches
const GROWING_MS = 1500 // while a branch grows, it is checked at most so often

/** A measurement of a risk: under way, made or failed. */
export interface Measured {
  risk: Risk | null
  failure: string | null
}

class Findings {
  /** Of the branch that is shown; null until the checks have answered. */
  found = $state.raw<FindingsInfo | null>(null)
  failure = $state<string | null>(null)
  risks = $state.raw<Readonly<Record<string, Measured>>>({})
  private known = new Lru<FindingsInfo>(KEPT, () => 1)
  private node: string | null = null
  private line: AbortController | null = null
  private timer: ReturnType<typeof setTimeout> | undefined
  private asked = 0
  private measuring = new Map<string, AbortController>()

  list: readonly Finding[] = $derived(this.found?.findings ?? [])
  marks: ReadonlyMap<number, Severity> = $derived(marksOf(this.list))

  /** Keep `found` in step with the branch that is shown. Call inside an effect. */
  follow(): void {
    const trace = focus.shown?.trace ?? null
    const id = trace?.node.id ?? null
    if (id !== this.node) {
      this.leave()
      this.node = id
      this.found = (id && this.known.get(id)) || null
    }
    if (id === null || this.line || this.timer !== undefined) return
    const ended = trace!.node.status !== 'running'
    if (ended && this.known.get(id)) return
    const wait = ended ? 0 : Math.max(0, this.asked + GROWING_MS - performance.now())
    this.timer = setTimeout(() => void this.ask(id), wait)
  }

  private leave(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    this.line?.abort()
    this.line = null
    this.failure = null
    for (const one of this.measuring.values()) one.abort()
    this.measuring.clear()
    this.risks = {}
  }

  private async ask(id: string): Promise<void> {
    this.timer = undefined
    this.asked = performance.now()
    const line = (this.line = new AbortController())
    const running = (): boolean => focus.shown?.trace.node.status === 'running'
    const growing = running()
    let again = false
    try {
      const found = await evidenceApi.findings(id, line.signal)
      if (line.signal.aborted) return
      if (!growing) this.known.put(id, found)
      this.found = found
      this.failure = null
      again = growing && !running() // it ended meanwhile: the end is to be checked, too
    } catch (cause) {
      if (line.signal.aborted) return
      // while it grows the next answer makes up for it
      if (growing) again = !running()
      else this.failure = cause instanceof Error ? cause.message : String(cause)
    }
    this.line = null
    if (again) this.timer = setTimeout(() => void this.ask(id), 0)
  }

  at(t: number): Finding[] {
    return findingsAt(this.list, t)
  }

  /** Select the next finding of the branch, or the one before. */
  go(step: 1 | -1): void {
    const t = nextFinding(this.list, focus.token, step)
    if (t !== null) focus.select(t)
  }

  /** Colour behind token t while the code is coloured by findings. */
  get paint(): ((t: number) => Ink | null) | null {
    if (look.column !== FINDING) return null
    const marks = this.marks
    return (t) => {
      const s = marks.get(t)
      return s ? { fill: `var(--${s}-soft)`, ink: 'var(--ink)' } : null
    }
  }

  measured(f: Finding): Measured | null {
    return this.risks[findingKey(f)] ?? null
  }

  /** How likely the finding was: takes seconds. Asked again while under way, it is given up. */
  async measure(f: Finding): Promise<void> {
    const key = findingKey(f)
    const id = this.node
    if (id === null) return
    const before = this.measuring.get(key)
    if (before) {
      before.abort()
      this.measuring.delete(key)
      this.put(key, null)
      return
    }
    const line = new AbortController()
    this.measuring.set(key, line)
    this.put(key, { risk: null, failure: null })
    try {
      const risk = await evidenceApi.risk(id, f, line.signal)
      if (!line.signal.aborted) this.put(key, { risk, failure: null })
    } catch (cause) {
      if (line.signal.aborted) return
      this.put(key, { risk: null, failure: cause instanceof Error ? cause.message : String(cause) })
    }
    this.measuring.delete(key)
  }

  private put(key: string, value: Measured | null): void {
    const others = Object.fromEntries(Object.entries(this.risks).filter(([k]) => k !== key))
    this.risks = value ? { ...others, [key]: value } : others
  }
}

export const findings = new Findings()
