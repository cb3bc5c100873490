/** The dialog that lies over the page, if any. */
class Overlay {
  open = $state<'palette' | 'keys' | null>(null)
}

export const overlay = new Overlay()
