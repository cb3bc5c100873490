import { untrack } from 'svelte'

/** Everything that can be done, by name and key: the palette, the key list and the keys read it. */
export interface Command {
  id: string
  title: string
  group: string
  /** As `KeyboardEvent.key`, with `Shift+`, `Alt+`, `Mod+` in front (Mod: Ctrl, or Cmd on a Mac). */
  keys?: string[]
  /** Shown in the palette and obeyed only while this holds. */
  when?: () => boolean
  run: () => void
  /** Listed under its key, but not in the palette. */
  quiet?: boolean
}

class Commands {
  private sets = $state.raw<Command[][]>([])
  all: Command[] = $derived(this.sets.flat())

  /** Returns how to take them away again: hand it to an `$effect`. */
  add(commands: Command[]): () => void {
    // Untracked: an effect that adds commands must not run again because it did.
    this.sets = [...untrack(() => this.sets), commands]
    return () => {
      this.sets = untrack(() => this.sets).filter((s) => s !== commands)
    }
  }

  /** The command on a key. Later ones come first: a view may take a key over while it is shown. */
  on(key: string): Command | null {
    return (
      this.all.findLast((c) => (c.keys ?? []).includes(key) && (c.when === undefined || c.when())) ??
      null
    )
  }
}

export const commands = new Commands()

const MAC = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? '')

/** `Mod+Enter`, `Alt+ArrowUp`, `[`, ... Shift is named only where the key itself does not tell it. */
export function keyOf(e: KeyboardEvent): string {
  const mod = MAC ? e.metaKey : e.ctrlKey
  const shift = e.shiftKey && e.key.length > 1
  return (mod ? 'Mod+' : '') + (e.altKey ? 'Alt+' : '') + (shift ? 'Shift+' : '') + e.key
}

const NAMES: Record<string, string> = {
  ArrowLeft: '←',
  ArrowRight: '→',
  ArrowUp: '↑',
  ArrowDown: '↓',
  Escape: 'Esc',
  Delete: 'Del',
  Mod: MAC ? '⌘' : 'Ctrl',
}

/** A key as it is printed on a keyboard. */
export function keyName(key: string): string {
  return key
    .split(/\+(?=.)/)
    .map((part) => NAMES[part] ?? part)
    .join(' ')
}
