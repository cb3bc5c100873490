/** Small choices that outlive a reload. A browser that forbids storage just forgets them. */
const PREFIX = 'tokenscope.'

export function recall<T>(name: string, otherwise: T): T {
  try {
    const text = localStorage.getItem(PREFIX + name)
    return text === null ? otherwise : (JSON.parse(text) as T)
  } catch {
    return otherwise
  }
}

export function keep(name: string, value: unknown): void {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value))
  } catch {
    // Private windows and full disks: the choice holds until the page is closed.
  }
}

/** What belongs to this tab alone and to this visit: it outlives a reload, not the tab. */
export function recallHere<T>(name: string, otherwise: T): T {
  try {
    const text = sessionStorage.getItem(PREFIX + name)
    return text === null ? otherwise : (JSON.parse(text) as T)
  } catch {
    return otherwise
  }
}

export function keepHere(name: string, value: unknown): void {
  try {
    sessionStorage.setItem(PREFIX + name, JSON.stringify(value))
  } catch {
    // It is then asked again after a reload.
  }
}
