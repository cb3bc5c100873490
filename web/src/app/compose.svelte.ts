/** The prompt being written. It stays as it is while one looks at traces. */
import type { GalleryItem } from '../api/types'
import { focus } from '../state/focus.svelte'
import { keep, recall } from '../state/keep'
import { runs, type Prompt } from '../state/runs.svelte'
import { sessions } from '../state/sessions.svelte'
import { decoding } from '../state/settings.svelte'

export type Kind = Prompt['kind']

export interface Turn {
  role: 'system' | 'user' | 'assistant'
  content: string
}

class Compose {
  kind = $state<Kind>('complete')
  text = $state(recall('prompt', ''))
  suffix = $state('')
  turns = $state<Turn[]>([{ role: 'user', content: '' }])
  language = $state(recall('language', 'python'))
  /** Put the new trace beside those of the open session. */
  inOpenSession = $state(false)
  /** Whether the editor takes the keyboard: not where one came here by deleting what was shown. */
  wanted = true

  get ready(): boolean {
    if (this.kind === 'chat') return this.turns.some((t) => t.content.trim() !== '')
    if (this.kind === 'infill') return this.text !== '' || this.suffix !== ''
    return this.text !== ''
  }

  fresh(): void {
    this.wanted = true
    this.inOpenSession = false
    sessions.close()
    focus.compose()
  }

  /** The prompt of the shown branch, to be changed and tried again: in the same session, or in a new one. */
  again(inOpenSession = true): void {
    const trace = focus.shown?.trace
    if (!trace) return
    this.kind = trace.node.form === 'infill' ? 'infill' : trace.node.form === 'chat' ? 'chat' : 'complete'
    if (this.kind === 'complete') this.text = trace.span(0, trace.nPrompt || trace.length)
    this.language = trace.language
    this.inOpenSession = inOpenSession
    this.wanted = true
    if (!inOpenSession) sessions.close()
    focus.compose()
  }

  pick(item: GalleryItem): void {
    this.kind = item.kind
    this.text = item.prompt
    this.suffix = item.suffix ?? ''
    this.language = item.language
    decoding.set('max_new_tokens', item.max_new_tokens)
  }

  async go(): Promise<void> {
    const { text, suffix, language } = this
    const prompt: Prompt =
      this.kind === 'chat'
        ? { kind: 'chat', messages: this.turns.filter((t) => t.content !== '').map((t) => ({ ...t })) }
        : this.kind === 'infill'
          ? { kind: 'infill', text, suffix, language }
          : { kind: this.kind, text, language }
    keep('prompt', text.length < 100_000 ? text : '')
    keep('language', language)
    await runs.generate(prompt, this.inOpenSession)
  }
}

export const compose = new Compose()
