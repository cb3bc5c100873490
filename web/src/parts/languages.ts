/** Languages of the prompt editor; each arrives when it is first wanted. */
import type { LanguageSupport, StreamParser } from '@codemirror/language'
import type { Extension } from '@codemirror/state'

export const LANGUAGES: readonly (readonly [name: string, title: string])[] = [
  ['python', 'Python'],
  ['javascript', 'JavaScript'],
  ['typescript', 'TypeScript'],
  ['java', 'Java'],
  ['c', 'C'],
  ['cpp', 'C++'],
  ['c_sharp', 'C#'],
  ['go', 'Go'],
  ['rust', 'Rust'],
  ['ruby', 'Ruby'],
  ['php', 'PHP'],
  ['bash', 'Shell'],
  ['sql', 'SQL'],
  ['kotlin', 'Kotlin'],
  ['swift', 'Swift'],
  ['json', 'JSON'],
  ['html', 'HTML'],
  ['css', 'CSS'],
  ['', 'Plain text'],
]

async function old(parser: Promise<StreamParser<unknown>>): Promise<Extension> {
  const { StreamLanguage } = await import('@codemirror/language')
  return StreamLanguage.define(await parser)
}

type Loader = () => Promise<LanguageSupport | Extension>

const LOADERS: Record<string, Loader> = {
  python: async () => (await import('@codemirror/lang-python')).python(),
  javascript: async () => (await import('@codemirror/lang-javascript')).javascript(),
  typescript: async () =>
    (await import('@codemirror/lang-javascript')).javascript({ typescript: true }),
  java: async () => (await import('@codemirror/lang-java')).java(),
  c: async () => (await import('@codemirror/lang-cpp')).cpp(),
  cpp: async () => (await import('@codemirror/lang-cpp')).cpp(),
  c_sharp: () => old(import('@codemirror/legacy-modes/mode/clike').then((m) => m.csharp)),
  go: async () => (await import('@codemirror/lang-go')).go(),
  rust: async () => (await import('@codemirror/lang-rust')).rust(),
  ruby: () => old(import('@codemirror/legacy-modes/mode/ruby').then((m) => m.ruby)),
  php: async () => (await import('@codemirror/lang-php')).php({ plain: true }),
  bash: () => old(import('@codemirror/legacy-modes/mode/shell').then((m) => m.shell)),
  sql: async () => (await import('@codemirror/lang-sql')).sql(),
  kotlin: () => old(import('@codemirror/legacy-modes/mode/clike').then((m) => m.kotlin)),
  swift: () => old(import('@codemirror/legacy-modes/mode/swift').then((m) => m.swift)),
  json: async () => (await import('@codemirror/lang-json')).json(),
  html: async () => (await import('@codemirror/lang-html')).html(),
  css: async () => (await import('@codemirror/lang-css')).css(),
}

/** Highlighting for a language; none for one that is not known. */
export async function languageSupport(name: string): Promise<Extension> {
  return (await LOADERS[name]?.()) ?? []
}
