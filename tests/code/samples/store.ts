/** A typed key-value store with expiry, events and a small query language. */
import type { Clock } from "./clock";
import { readFile } from "node:fs/promises";

export type Key = string | number;
export type Result<T, E = Error> = { ok: true; value: T } | { ok: false; error: E };
type Listener<T> = (key: Key, value: T | undefined) => void;

export interface Options {
  readonly limit: number;
  ttlMs?: number;
  clock: Clock;
}

export enum Change {
  Set = "set",
  Delete = "delete",
  Expire = "expire",
}

interface Entry<T> {
  value: T;
  expires: number | null;
  tags: ReadonlySet<string>;
}

abstract class Base<T> {
  protected abstract lookup(key: Key): Entry<T> | undefined;

  public has(key: Key): boolean {
    return this.lookup(key) !== undefined;
  }
}

export class Store<T extends object> extends Base<T> {
  private readonly entries = new Map<Key, Entry<T>>();
  private listeners: Partial<Record<Change, Listener<T>[]>> = {};
  static instances: number = 0;

  constructor(private readonly options: Options) {
    super();
    Store.instances += 1;
  }

  on(change: Change, listener: Listener<T>): () => void {
    const list = (this.listeners[change] ??= []);
    list.push(listener);
    return () => {
      const at = list.indexOf(listener);
      if (at >= 0) list.splice(at, 1);
    };
  }

  set(key: Key, value: T, tags: Iterable<string> = []): Result<T> {
    if (this.entries.size >= this.options.limit && !this.entries.has(key)) {
      return { ok: false, error: new RangeError(`store is full: ${this.options.limit}`) };
    }
    const { ttlMs, clock } = this.options;
    const expires = ttlMs === undefined ? null : clock.now() + ttlMs;
    this.entries.set(key, { value, expires, tags: new Set(tags) });
    this.emit(Change.Set, key, value);
    return { ok: true, value };
  }

  get(key: Key): T | undefined {
    return this.lookup(key)?.value;
  }

  protected lookup(key: Key): Entry<T> | undefined {
    const entry = this.entries.get(key);
    if (entry?.expires != null && entry.expires <= this.options.clock.now()) {
      this.entries.delete(key);
      this.emit(Change.Expire, key, entry.value);
      return undefined;
    }
    return entry;
  }

  *where<K extends keyof T>(field: K, test: (value: T[K]) => boolean): Generator<[Key, T]> {
    for (const [key, entry] of this.entries) {
      if (this.lookup(key) && test(entry.value[field])) yield [key, entry.value];
    }
  }

  private emit(change: Change, key: Key, value?: T): void {
    for (const listener of this.listeners[change] ?? []) listener(key, value);
  }
}

export function isEntry<T>(thing: unknown): thing is Entry<T> {
  return typeof thing === "object" && thing !== null && "value" in thing;
}

type Keys<T> = { [K in keyof T]-?: T[K] extends string ? K : never }[keyof T];

export async function load<T extends object>(path: string, store: Store<T>): Promise<number> {
  let count = 0;
  try {
    const rows = JSON.parse(await readFile(path, "utf8")) as Array<[Key, T]>;
    for (const [key, value] of rows) {
      const result = store.set(key, value satisfies T);
      if (!result.ok) throw result.error;
      count++;
    }
  } catch (error: unknown) {
    console.warn((error as Error).message);
  }
  return count;
}

declare global {
  interface Window { store?: Store<{ name: string }>; }
}
