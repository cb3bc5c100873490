import { describe, expect, it } from 'vitest'
import type { EditField, EditKind } from '../src/api/edits'
import { blank, complete, inWords, sliderOf } from '../src/core/edits'

const field = (name: string, type: EditField['type'], more: Partial<EditField> = {}): EditField => ({
  name, title: name, help: '', type, required: true, default: null, low: null, high: null, choices: [], ...more,
}) // prettier-ignore
const at = field('at', 'integer', { required: false, default: '0', low: 0 })
const until = field('until', 'integer', { required: false })
const kind = (name: string, ...fields: EditField[]): EditKind => ({
  kind: name, title: name, help: '', inside: false, fields: [...fields, at, until],
})

describe('an edit as a form fills it in', () => {
  const ban = kind('ban_text', field('strings', 'strings'))
  const bias = kind('bias_text', field('strings', 'strings'), field('amount', 'number', { low: -10_000, high: 10_000 }))

  it('begins blank, with what the server says it begins with', () => {
    expect(blank(ban)).toEqual({ kind: 'ban_text', strings: [], at: 0, until: null })
    expect(blank(bias)).toEqual({ kind: 'bias_text', strings: [], amount: 0, at: 0, until: null })
    const viable = kind('viable', field('scope', 'choice', { required: false, default: 'text', choices: ['text', 'generated'] }), field('cover', 'number', { required: false, default: '0.999' }))
    expect(blank(viable)).toEqual({ kind: 'viable', scope: 'text', cover: 0.999, at: 0, until: null })
  })

  it('is whole when all that must be said is said', () => {
    expect(complete(ban, blank(ban))).toBe(false)
    expect(complete(ban, { ...blank(ban), strings: ['eval('] } as never)).toBe(true)
    expect(complete(null, blank(ban))).toBe(false)
    expect(complete(kind('viable'), blank(kind('viable')))).toBe(true)
  })

  it('is told in a few words', () => {
    expect(inWords(ban, { ...blank(ban), strings: ['a', 'b', 'c', 'd'] } as never)).toBe('ban_text: a, b, c …')
    expect(inWords(bias, { ...blank(bias), strings: ['x'], amount: -2.5 } as never)).toBe('bias_text: x; -2.5')
  })

  it('gets a slider over the usual part of a number', () => {
    expect(sliderOf(bias.fields[1])).toEqual({ min: -10, max: 10, step: 0.1 })
    expect(sliderOf(field('cover', 'number', { low: 0.5, high: 1 }))).toEqual({ min: 0.5, max: 1, step: 0.005 })
    expect(sliderOf(field('n', 'integer', { low: 0, high: 9 }))).toBeNull()
  })
})
