/** From a sample of an audit to the branch that holds it, at a token, in Scope. */
import { auditsApi } from '../../api/audits'
import { api } from '../../api/client'
import { focus } from '../../state/focus.svelte'
import { notices } from '../../state/notices.svelte'
import { openSession } from '../../state/opening'
import { sessions } from '../../state/sessions.svelte'

export async function intoScope(audit: string, name: string, sample: number, token: number | null): Promise<void> {
  try {
    const { session, node, run } = await auditsApi.open(audit, name, sample)
    if (run !== null) await api.ended(run) // measured again: then every number is there
    focus.view = 'scope'
    await openSession(session, node, token)
    void sessions.refresh().catch(() => undefined)
  } catch (cause) {
    notices.fail(cause)
  }
}
