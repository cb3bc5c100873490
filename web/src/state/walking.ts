import type { Command } from './commands.svelte'
import { focus } from './focus.svelte'

/** The arrow keys of a view with code: from token to token. `take`: what brings the code the keys. */
export const walking = (take: () => void): Command[] =>
  (
    [
      ['ArrowLeft', -1, 'Token before'],
      ['ArrowRight', 1, 'Token after'],
    ] as const
  ).map(([key, n, title]) => ({
    id: key,
    title,
    group: 'Token',
    keys: [key],
    quiet: true,
    run: () => {
      take()
      focus.walk(n)
    },
  }))

/** Escape lets go of the token that is selected. */
export const lettingGo: Command = {
  id: 'leave-token',
  title: 'Let go of the token',
  group: 'Token',
  keys: ['Escape'],
  when: () => focus.token !== null,
  quiet: true,
  run: () => focus.select(null),
}
