/** Traces that were fetched or are being decoded, by branch; the least recently used go first. */
import { api } from '../api/client'
import { Trace } from '../core/trace'

const KEPT = 24

class Traces {
  private known = new Map<string, Trace>()

  get(node: string): Trace | null {
    const trace = this.known.get(node)
    if (!trace) return null
    this.known.delete(node)
    this.known.set(node, trace)
    return trace
  }

  put(trace: Trace): void {
    this.known.delete(trace.node.id)
    this.known.set(trace.node.id, trace)
    for (const id of this.known.keys()) {
      if (this.known.size <= KEPT) break
      this.known.delete(id)
    }
  }

  drop(node: string): void {
    this.known.delete(node)
  }

  clear(): void {
    this.known.clear()
  }

  /** Tokens first, so that they can be painted; `numbers` then fetches columns and alternatives. */
  async load(node: string): Promise<Trace> {
    const known = this.get(node)
    if (known) return known
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
