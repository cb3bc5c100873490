/**
 * The views in the middle of the page: each is one picture that answers one question.
 *
 * To add one: a folder beside this file with a component, and an entry here. See web/README.md.
 */
import type { Component } from 'svelte'
import type { Abilities } from '../api/types'
import { focus } from '../state/focus.svelte'
import Attention from './attention/Attention.svelte'
import Audit from './audit/Audit.svelte'
import Compare from './compare/Compare.svelte'
import Ledger from './ledger/Ledger.svelte'
import Models from './models/Models.svelte'
import Scope from './scope/Scope.svelte'
import Structure from './structure/Structure.svelte'
import WhatIf from './whatif/WhatIf.svelte'
import Why from './why/Why.svelte'

export interface View {
  title: string
  /** The question that it answers; read aloud and shown as the tab's hint. */
  question: string
  component: Component
  /** Key that goes there. */
  key: string
  /** It needs neither a trace nor a model: it stands in front of whatever else is shown. */
  aside?: boolean
  /** Why it cannot be had with this model, null where it can. */
  lacks?: (abilities: Abilities) => string | null
}

export const views: Record<string, View> = {
  scope: {
    title: 'Scope',
    question: 'What did the model write, and how sure was it at every token?',
    component: Scope,
    key: 's',
  },
  structure: {
    title: 'Structure',
    question: 'Where in the syntax was it unsure, and which part looked at which?',
    component: Structure,
    key: 'x',
  },
  attention: {
    title: 'Attention',
    question: 'What does each head look at, and which head does what?',
    component: Attention,
    key: 'h',
    lacks: (can) => (can.internals && can.attention ? null : 'This backend gives no access to attention heads.'),
  },
  why: {
    title: 'Why',
    question: 'Why did the model choose this token rather than that one?',
    component: Why,
    key: 'y',
    lacks: (can) => (can.internals ? null : "This backend gives no access to the model's internals."),
  },
  whatif: {
    title: 'What if',
    question: 'What would the model write instead, and what does an edit change?',
    component: WhatIf,
    key: 'v',
    lacks: (can) => (can.fork === 'none' ? 'This model cannot branch.' : null),
  },
  compare: {
    title: 'Compare',
    question: 'What does another model say of the same text, and where would it choose otherwise?',
    component: Compare,
    key: 'z',
  },
  ledger: {
    title: 'Ledger',
    question: 'Which edits change what is written the most, for the least damage?',
    component: Ledger,
    key: 'l',
    aside: true,
  },
  audit: {
    title: 'Audit',
    question: 'How often is something detected, and do the intervals keep their limits?',
    component: Audit,
    key: 'q',
    aside: true,
  },
  models: {
    title: 'Models',
    question: 'Which models are at hand, what can each do, and does it fit here?',
    component: Models,
    key: 'm',
    aside: true,
  },
}

/** Go to a view: one that needs a trace, or one that stands in front of it. */
export function goTo(name: string): void {
  if (views[name].aside) focus.aside = focus.aside === name ? null : name
  else Object.assign(focus, { view: name, aside: null })
}
