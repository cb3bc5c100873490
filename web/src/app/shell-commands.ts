/** What the shell can do, whatever view is shown. */
import { model } from '../state/model.svelte'
import type { Command } from '../state/commands.svelte'
import { focus } from '../state/focus.svelte'
import { look, type Panel } from '../state/look.svelte'
import { notices } from '../state/notices.svelte'
import { runs } from '../state/runs.svelte'
import { sessions } from '../state/sessions.svelte'
import { tour } from '../tour/tour.svelte'
import { goTo, views } from '../views/registry'
import { compose } from './compose.svelte'
import { noting } from './noting.svelte'
import { overlay } from './overlay.svelte'
import { removeBranch } from './remove'

const reading = (): boolean => focus.stage === 'trace'

const panels: [Panel, string, string][] = [
  ['left', 'Sessions and branches', '1'],
  ['right', 'Inspector', '2'],
  ['trend', 'Trend', '3'],
]

export const shellCommands: Command[] = [
  {
    id: 'new',
    title: 'New prompt',
    group: 'Session',
    keys: ['n'],
    run: () => compose.fresh(),
  },
  {
    id: 'edit-prompt',
    title: 'Edit the prompt of this branch',
    group: 'Session',
    keys: ['p'],
    when: reading,
    run: () => compose.again(),
  },
  {
    id: 'new-with-prompt',
    title: 'New session with the prompt of this branch',
    group: 'Session',
    keys: ['P'],
    when: reading,
    run: () => compose.again(false),
  },
  {
    id: 'generate',
    title: 'Generate',
    group: 'Session',
    keys: ['Mod+Enter'],
    when: () => focus.stage === 'compose' && compose.ready && !runs.asking,
    run: () => void compose.go(),
  },
  {
    id: 'stop',
    title: 'Stop decoding',
    group: 'Session',
    keys: ['.'],
    when: () => runs.current !== null,
    run: () => void runs.stop(),
  },
  {
    id: 'next-sibling',
    title: 'Next branch',
    group: 'Branch',
    keys: [']'],
    when: reading,
    run: () => void focus.turn(1),
  },
  {
    id: 'previous-sibling',
    title: 'Previous branch',
    group: 'Branch',
    keys: ['['],
    when: reading,
    run: () => void focus.turn(-1),
  },
  {
    id: 'parent',
    title: 'Parent branch',
    group: 'Branch',
    keys: ['{'],
    when: () => reading() && parent() !== null,
    run: () => void focus.show(parent()!),
  },
  {
    id: 'child',
    title: 'First branch from this one',
    group: 'Branch',
    keys: ['}'],
    when: () => reading() && child() !== null,
    run: () => void focus.show(child()!),
  },
  {
    id: 'bookmark',
    title: 'Bookmark this branch, or take the bookmark off',
    group: 'Branch',
    keys: ['b'],
    when: reading,
    run: () => {
      const node = sessions.node(focus.node!)
      if (node) sessions.annotate(node.id, { starred: !node.starred }).catch((e) => notices.fail(e))
    },
  },
  {
    id: 'note',
    title: 'Write a note on this branch',
    group: 'Branch',
    keys: ['i'],
    when: reading,
    run: () => noting.begin(focus.node!),
  },
  {
    id: 'delete-branch',
    title: 'Delete this branch',
    group: 'Branch',
    keys: ['Shift+Delete'],
    when: reading,
    run: () => void removeBranch(focus.node!),
  },
  {
    id: 'undo',
    title: 'Undo the last deletion',
    group: 'Session',
    keys: ['u', 'Mod+z'],
    when: () => notices.list.some((n) => n.action),
    run: () => void notices.undo(),
  },
  {
    id: 'palette',
    title: 'Find a command',
    group: 'Page',
    keys: ['/', 'Mod+k'],
    quiet: true,
    run: () => (overlay.open = 'palette'),
  },
  {
    id: 'keys',
    title: 'Show all keys',
    group: 'Page',
    keys: ['?'],
    run: () => (overlay.open = 'keys'),
  },
  {
    id: 'tour',
    title: 'A tour in five steps',
    group: 'Page',
    run: () => void tour.begin(),
  },
  {
    id: 'theme',
    title: 'Light or dark',
    group: 'Look',
    keys: ['t'],
    run: () => look.nextTheme(),
  },
  ...panels.map(([panel, title, key]) => ({
    id: `panel-${panel}`,
    title: `Show or hide: ${title}`,
    group: 'Look',
    keys: [key],
    run: () => look.toggle(panel),
  })),
  ...Object.entries(views).map(([name, view]) => ({
    id: `view-${name}`,
    title: `View: ${view.title}`,
    group: 'View',
    keys: [view.key],
    when: () => {
      const a = model.abilities
      return (view.aside ?? false) || (a !== null && !view.lacks?.(a))
    },
    run: () => goTo(name),
  })),
]

const parent = (): string | null => {
  const node = focus.node === null ? null : sessions.node(focus.node)
  return node && node.parent && sessions.node(node.parent) ? node.parent : null
}
const child = (): string | null => sessions.nodes.find((n) => n.parent === focus.node)?.id ?? null
