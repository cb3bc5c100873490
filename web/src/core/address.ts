/** What is shown, as it stands in the address: a view can be bookmarked and shared. */
export interface Shown {
  session: string | null
  node: string | null
  token: number | null
  column: string | null
  view: string | null
  /** The audit that is looked at. */
  audit: string | null
  /** `only` to be read: nothing is decoded or changed. */
  read: string | null
}

const NAMES = ['session', 'node', 'token', 'column', 'view', 'audit', 'read'] as const

export function readAddress(hash: string): Shown {
  const q = new URLSearchParams(hash.replace(/^#/, ''))
  const word = (name: string): string | null => {
    const v = q.get(name)
    return v !== null && v !== '' && v.length <= 200 ? v : null
  }
  const token = word('token')
  return {
    session: word('session'),
    node: word('node'),
    token: token !== null && /^\d{1,9}$/.test(token) ? Number(token) : null,
    column: word('column'),
    view: word('view'),
    audit: word('audit'),
    read: word('read') === 'only' ? 'only' : null,
  }
}

export function writeAddress(shown: Shown): string {
  const q = new URLSearchParams()
  for (const name of NAMES) {
    const v = shown[name]
    if (v !== null) q.set(name, String(v))
  }
  const s = q.toString()
  return s === '' ? '' : '#' + s
}
