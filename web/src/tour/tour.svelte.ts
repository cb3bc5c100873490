/** Five steps through the page, on an example that was recorded: nothing is decoded for it. */
import { focus } from '../state/focus.svelte'
import { look } from '../state/look.svelte'
import { notices } from '../state/notices.svelte'
import { openSession } from '../state/opening'
import { sessions } from '../state/sessions.svelte'
import example from './tour.tscope?url'

export const TITLE = 'A tour'

interface Step {
  title: string
  text: string
  /** Bring onto the page what the step speaks of. */
  show: () => Promise<void> | void
}

const root = (): string | null => sessions.nodes.find((n) => n.parent === null)?.id ?? null
const branch = (): string | null => sessions.nodes.find((n) => n.parent !== null)?.id ?? null
/** The first token that the model wrote. */
const decision = (): number => sessions.nodes.find((n) => n.parent !== null)?.at ?? 0

async function scope(node: string | null, token: number | null): Promise<void> {
  focus.view = 'scope'
  if (node) await focus.show(node, token)
  focus.select(token)
}

export const steps: Step[] = [
  {
    title: 'Every token has its numbers',
    text: 'The model wrote what is coloured; the rest was given. The stronger the colour, the more surprised it was. Hover a token for its numbers; “colour by” below the code shows another signal.',
    show: async () => {
      look.column = 'surprisal'
      await scope(root(), null)
    },
  },
  {
    title: 'What else it could have written',
    text: 'After “shell=” it wrote True. The inspector on the right shows what it held against that, with probabilities, and every number of this token. A click on an alternative begins a branch.',
    show: () => scope(root(), decision()),
  },
  {
    title: 'A branch goes another way',
    text: 'Here the same token was replaced by False, and the model went on from there. Both branches stand in the tree on the left; [ and ] go from one to the other.',
    show: () => scope(branch(), decision()),
  },
  {
    title: 'The same numbers over the syntax',
    text: 'Structure adds the numbers up over statements, calls and names: which part was it unsure of?',
    show: async () => {
      await scope(root(), decision())
      focus.view = 'structure'
    },
  },
  {
    title: 'What if?',
    text: 'Why tells what a choice rested on. What if counts what else would come of it, and changes the model’s hand: ban a call, ask for a grammar, take a head out. Press n for a prompt of your own.',
    show: () => {
      focus.view = 'whatif'
    },
  },
]

class Tour {
  /** The step that is shown, null when there is no tour. */
  at = $state<number | null>(null)
  private asked = 0

  async begin(): Promise<void> {
    try {
      const held = (sessions.list ?? []).find((s) => s.title === TITLE && s.branches === 2)
      const id = held?.id ?? (await this.take())
      await openSession(id)
      await this.go(0)
    } catch (cause) {
      notices.fail(cause, 'The tour could not be opened.')
    }
  }

  async go(step: number): Promise<void> {
    const ask = ++this.asked
    this.at = step
    await steps[step]!.show()
    if (ask !== this.asked && this.at !== null) await steps[this.at]!.show()
  }

  end(): void {
    this.at = null
  }

  private async take(): Promise<string> {
    const answer = await fetch(example)
    if (!answer.ok) throw new Error('the recorded example is not there')
    return (await sessions.take(new File([await answer.blob()], 'tour.tscope'))).id
  }
}

export const tour = new Tour()
