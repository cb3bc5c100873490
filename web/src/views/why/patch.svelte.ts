/** The patch map that is shown, and the job that makes it. */
import { explainApi, type PatchAsk, type PatchEvent, type PatchMap } from '../../api/explain'
import { Asked } from '../../state/asked.svelte'

export interface PatchQuestion extends PatchAsk {
  node: string
}

class Patch extends Asked<PatchEvent, PatchQuestion> {
  made = $state.raw<PatchMap | null>(null)
  cost = $state('')

  constructor() {
    super('patch')
  }

  async ask(node: string, body: PatchAsk): Promise<void> {
    await this.begin({ node, ...body }, () => explainApi.patch(node, body))
  }

  /** Whether what runs or was answered belongs to this token. */
  isOf(node: string, at: number): boolean {
    return this.question?.node === node && this.question.at === at
  }

  protected override clear(): void {
    this.made = null
    this.cost = ''
  }

  protected override take(event: PatchEvent): void {
    if (event.type === 'start') this.cost = event.cost
    else if (event.type === 'patch') this.made = event
  }
}

export const patch = new Patch()
