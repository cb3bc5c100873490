/** From an address to what it shows, and back; what happens on opening and after a broken line. */
import { ApiError } from '../api/errors'
import { readAddress, writeAddress, type Shown } from '../core/address'
import { audits } from '../state/audits.svelte'
import { background } from '../state/background.svelte'
import { focus } from '../state/focus.svelte'
import { look } from '../state/look.svelte'
import { model } from '../state/model.svelte'
import { models } from '../state/models.svelte'
import { reach } from '../state/reach.svelte'
import { openSession } from '../state/opening'
import { runs } from '../state/runs.svelte'
import { sessions } from '../state/sessions.svelte'
import { views } from '../views/registry'

class Opening {
  stage = $state<'loading' | 'ready' | 'failed'>('loading')
  failure = $state('')
}

export const opening = new Opening()
export { openSession }

export async function start(): Promise<void> {
  opening.stage = 'loading'
  try {
    await Promise.all([model.load(), models.refresh(), sessions.refresh()])
    opening.stage = 'ready'
    void background.look()
    await arrive()
  } catch (cause) {
    if (cause instanceof ApiError && cause.signedOut) reach.signedOut = true
    opening.failure = cause instanceof Error ? cause.message : String(cause)
    opening.stage = 'failed'
  }
}

/** Show what the address says. */
export async function arrive(): Promise<void> {
  const asked = readAddress(location.hash)
  const view = asked.view === null ? undefined : views[asked.view]
  if (view && !view.aside) focus.view = asked.view!
  await goThere(asked)
  focus.aside = view?.aside ? asked.view : null
  if (asked.view === 'audit') audits.choose(asked.audit)
}

async function goThere(asked: Shown): Promise<void> {
  sessions.toRead = asked.read === 'only' ? asked.session : null
  if (asked.column) look.column = asked.column
  if (!asked.session) {
    if (focus.stage !== 'compose') focus.compose()
    return
  }
  if (asked.session === sessions.open?.id && asked.node === focus.node) {
    if (asked.token !== focus.token) focus.select(asked.token)
    return
  }
  await openSession(asked.session, asked.node, asked.token)
}

/** Keep the address in step. Moving between branches is a step that Back undoes; a token is not. */
export function followAddress(): void {
  let before = ''
  $effect(() => {
    if (opening.stage !== 'ready' || focus.stage === 'loading') return
    const plain = focus.stage === 'compose'
    const hash = writeAddress({
      session: plain ? null : (sessions.open?.id ?? null),
      node: plain ? null : focus.node,
      token: plain ? null : focus.token,
      column: plain ? null : look.column,
      read: sessions.readOnly && !plain ? 'only' : null,
      audit: focus.aside === 'audit' ? audits.chosen : null,
      view: focus.aside ?? (plain || focus.view === 'scope' ? null : focus.view),
    })
    const place = `${focus.aside === 'audit' ? audits.chosen : ''} ${plain} ${sessions.open?.id} ${focus.node} ${focus.view} ${focus.aside}`
    if ((hash || '#') === (location.hash || '#')) {
      before = place
      return
    }
    const url = location.pathname + location.search + hash
    if (before !== '' && before !== place) history.pushState(null, '', url)
    else history.replaceState(null, '', url)
    before = place
  })
}

/** The server answers again: what was running has been kept as far as it was acknowledged. */
export async function returned(): Promise<void> {
  if (opening.stage === 'failed') return start()
  try {
    await sessions.refresh()
    const node = focus.node
    const running = node !== null && runs.byNode[node]
    if (sessions.open) await sessions.load(sessions.open.id)
    if (node && !running && focus.shown?.trace.node.status !== 'done') await runs.refetch(node)
  } catch {
    // Lost again: the next return tries again.
  }
}
