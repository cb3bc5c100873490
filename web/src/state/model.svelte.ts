/** The loaded model and its gallery: what the server can do, and what its columns mean. */
import { api } from '../api/client'
import type { ColumnInfo, GalleryItem, ModelInfo } from '../api/types'
import { errorBar } from '../core/format'

class Model {
  info = $state.raw<ModelInfo | null>(null)
  gallery = $state.raw<GalleryItem[]>([])
  columns: Map<string, ColumnInfo> = $derived(
    new Map((this.info?.columns ?? []).map((c) => [c.name, c])),
  )

  async load(): Promise<void> {
    const [info, gallery] = await Promise.all([api.model(), api.gallery()])
    this.info = info
    this.gallery = gallery
  }

  /** The column's error bar in words, by a trace's origin or else by the loaded model. */
  error(column: string, origin: Record<string, unknown> = {}): string | null {
    const own = origin.errors as Record<string, number> | undefined
    const dtype = (origin.dtype as string | undefined) || this.info?.dtype || ''
    const errors = own ?? this.info?.errors ?? {}
    return errorBar(errors[column], this.columns.get(column)?.unit ?? '', dtype)
  }

  get abilities() {
    return this.info?.abilities ?? null
  }
}

export const model = new Model()
