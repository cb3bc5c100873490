/** The loaded model and its gallery: what the server can do, and what its columns mean. */
import { api } from '../api/client'
import type { ColumnInfo, GalleryItem, ModelInfo } from '../api/types'

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

  get abilities() {
    return this.info?.abilities ?? null
  }
}

export const model = new Model()
