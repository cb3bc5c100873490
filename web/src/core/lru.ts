/** A cache under a budget: what was used last stays, what was not used for longest goes first. */
export class Lru<V> {
  private held = new Map<string, { value: V; size: number }>()
  private total = 0

  /** `sizeOf`: bytes (or whatever the budget counts) of a value. `stays`: is never let go of. */
  constructor(
    private readonly budget: number,
    private readonly sizeOf: (value: V) => number,
    private readonly stays: (value: V) => boolean = () => false,
  ) {}

  get(key: string): V | undefined {
    const found = this.held.get(key)
    if (!found) return undefined
    this.held.delete(key)
    this.held.set(key, found)
    return found.value
  }

  /** Keep a value. One that is larger than the whole budget is kept alone, until the next. */
  put(key: string, value: V): void {
    this.drop(key)
    const size = this.sizeOf(value)
    this.held.set(key, { value, size })
    this.total += size
    for (const [old, { value: v }] of this.held) {
      if (this.total <= this.budget || old === key) break
      if (!this.stays(v)) this.drop(old)
    }
  }

  drop(key: string): void {
    const found = this.held.get(key)
    if (!found) return
    this.total -= found.size
    this.held.delete(key)
  }

  clear(): void {
    this.held.clear()
    this.total = 0
  }

  get size(): number {
    return this.total
  }

  get count(): number {
    return this.held.size
  }

  values(): V[] {
    return [...this.held.values()].map((h) => h.value)
  }
}
