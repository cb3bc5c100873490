/** The branch whose note is being written. */
class Noting {
  node = $state<string | null>(null)

  begin(node: string): void {
    this.node = node
  }

  end(): void {
    this.node = null
  }
}

export const noting = new Noting()
