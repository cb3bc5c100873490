import { focus } from '../state/focus.svelte'
import { notices } from '../state/notices.svelte'
import { sessions } from '../state/sessions.svelte'
import { compose } from './compose.svelte'

/** Delete a branch; what is shown moves to its parent, and back if it is undone. */
export async function removeBranch(id: string): Promise<void> {
  const was = focus.node
  const parent = sessions.node(id)?.parent ?? null
  try {
    const gone = await sessions.removeNode(id, () => {
      if (was && gone.has(was)) void focus.show(was)
    })
    if (was === null || !gone.has(was)) return
    const next = parent && sessions.node(parent) ? parent : sessions.nodes.at(-1)?.id
    if (next) await focus.show(next)
    else leave()
  } catch (cause) {
    notices.fail(cause, 'Could not delete.')
  }
}

/** To the prompt, without taking the keyboard: the undo key must still work. */
function leave(): void {
  compose.wanted = false
  focus.compose()
}

export async function removeSession(id: string, undone: () => void): Promise<void> {
  const shown = sessions.open?.id === id
  try {
    await sessions.remove(id, undone)
    if (shown) leave()
  } catch (cause) {
    notices.fail(cause, 'Could not delete.')
  }
}
