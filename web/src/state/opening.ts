/** Opening a session at a branch. */
import { ApiError, Unreachable } from '../api/errors'
import { focus } from './focus.svelte'
import { look } from './look.svelte'
import { notices } from './notices.svelte'
import { runs } from './runs.svelte'
import { sessions } from './sessions.svelte'

/** The session whose first trace has set the ends of the scales. */
let scaled = ''

/** Open a session at a branch, or at its newest one. */
export async function openSession(
  id: string,
  node: string | null = null,
  token: number | null = null,
): Promise<void> {
  try {
    const session = await sessions.load(id).catch((cause: unknown) => {
      const kept = cause instanceof Unreachable ? sessions.remembered(id) : null
      if (kept) return kept
      throw cause
    })
    if (session.id !== scaled) look.forgetRanges()
    scaled = session.id
    await runs.enter(session.id)
    const known = session.nodes.some((n) => n.id === node)
    const newest = session.nodes.at(-1)
    if (known) await focus.show(node!, token)
    else if (newest) await focus.show(newest.id, null)
    else focus.compose()
  } catch (cause) {
    focus.compose()
    sessions.close()
    if (cause instanceof ApiError) notices.fail(cause, 'That session could not be opened.')
  }
}
