/** The loaded model and its gallery: what the server can do, and what its columns mean. */
import { api } from '../api/client'
import { ApiError } from '../api/errors'
import type { ColumnInfo, GalleryItem, ModelInfo } from '../api/types'
import { errorBar } from '../core/format'

class Model {
  info = $state.raw<ModelInfo | null>(null)
  gallery = $state.raw<GalleryItem[]>([])
  /** Every column there is: what was recorded can be read while no model is loaded. */
  private known = $state.raw<ColumnInfo[]>([])
  columns: Map<string, ColumnInfo> = $derived(
    new Map((this.info?.columns ?? this.known).map((c) => [c.name, c])),
  )

  async load(): Promise<void> {
    const [info, gallery, known] = await Promise.all([
      api.model().catch((cause: unknown) => {
        if (cause instanceof ApiError && cause.body.code === 'model_not_loaded') return null
        throw cause
      }),
      api.gallery(),
      api.everyColumn(),
    ])
    Object.assign(this, { info, gallery, known })
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
