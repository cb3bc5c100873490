/** Edits as a form fills them in: blank ones, whether they are whole, and in a few words. */
import type { Edit, EditField, EditKind } from '../api/edits'

const lists = new Set(['strings', 'ids'])

/** The value that a field begins with. */
export function beginning(field: EditField): unknown {
  if (field.default !== null) {
    return field.type === 'text' || field.type === 'code' || field.type === 'choice'
      ? field.default
      : (JSON.parse(field.default) as unknown)
  }
  if (lists.has(field.type)) return []
  if (field.type === 'text' || field.type === 'code') return ''
  if (field.type === 'choice') return field.choices[0] ?? ''
  return field.required ? 0 : null
}

export function blank(kind: EditKind): Edit {
  const out: Record<string, unknown> = { kind: kind.kind }
  for (const f of kind.fields) out[f.name] = beginning(f)
  return out as unknown as Edit
}

/** Whether every field that must be filled in is. */
export function complete(kind: EditKind | null, edit: Edit): boolean {
  if (!kind) return false
  const held = edit as unknown as Record<string, unknown>
  return kind.fields.every((f) => {
    if (!f.required) return true
    const v = held[f.name]
    if (Array.isArray(v)) return v.length > 0
    return v !== null && v !== undefined && v !== ''
  })
}

/** An edit in a few words: "Ban text: shell=True, eval(". */
export function inWords(kind: EditKind | null, edit: Edit): string {
  const held = edit as unknown as Record<string, unknown>
  const parts: string[] = []
  for (const f of kind?.fields ?? []) {
    const v = held[f.name]
    if (f.name === 'at' || f.name === 'until' || v === null || v === '' || v === undefined) continue
    if (Array.isArray(v)) {
      if (v.length > 0) parts.push(v.slice(0, 3).join(', ') + (v.length > 3 ? ' …' : ''))
    } else if (f.required) parts.push(String(v as string | number))
  }
  const title = kind?.title ?? edit.kind
  return parts.length > 0 ? `${title}: ${parts.join('; ')}` : title
}

/** Where a slider for a number makes sense: its usual part. */
export function sliderOf(field: EditField): { min: number; max: number; step: number } | null {
  if (field.type !== 'number') return null
  const [lo, hi] = [field.low, field.high]
  if (lo === null || hi === null) return null
  if (hi - lo <= 4) return { min: lo, max: hi, step: (hi - lo) / 100 }
  const most = Math.min(10, hi)
  return { min: Math.max(lo, -most), max: most, step: 0.1 }
}
