/** Traces that were fetched or are being decoded, by branch; the least recently used go first. */
import { api } from '../api/client'
import { Lru } from '../core/lru'
import { Trace } from '../core/trace'

const BUDGET = 192 * 2 ** 20

class Traces {
  private known = new Lru<Trace>(
    BUDGET,
    (t) => t.bytesHeld,
    (t) => t.node.status === 'running',
  )
  /** The trace of a branch that is being decoded, when its events arrive; null if it is not. */
  coming: (node: string) => Promise<Trace | null> = () => Promise.resolve(null)

  get(node: string): Trace | null {
    return this.known.get(node) ?? null
  }

  put(trace: Trace): void {
    this.known.put(trace.node.id, trace)
  }

  drop(node: string): void {
    this.known.drop(node)
  }

  clear(): void {
    this.known.clear()
  }

  /** Tokens first, so that they can be painted; `numbers` then fetches columns and alternatives. */
  async load(node: string): Promise<Trace> {
    const known = this.get(node) ?? (await this.coming(node))
    if (known) return known
    return this.fetch(node)
  }

  /** As the store has it. */
  async fetch(node: string): Promise<Trace> {
    const trace = Trace.of(await api.trace(node))
    if (trace.length > 0) await this.columns(trace)
    this.put(trace)
    return trace
  }

  private async columns(trace: Trace): Promise<void> {
    const names = [...trace.qualities.keys()]
    if (names.length === 0) return
    const { buffer } = await api.columns(trace.node.id, names)
    trace.setColumns(names, buffer)
  }

  async alternatives(trace: Trace): Promise<void> {
    if (trace.hasAlternatives || trace.k === 0 || trace.length === 0) return
    const { buffer } = await api.alternatives(trace.node.id)
    if (!trace.hasAlternatives) trace.setAlternatives(buffer)
  }
}

export const traces = new Traces()
