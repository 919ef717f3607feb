/** The demo API's items: a bounded list in memory, the same for every user. */

export interface Item {
  readonly id: string
  readonly title: string
  readonly createdBy: string
  readonly createdAt: string
}

const ITEMS_MAX = 100

export class ItemShelf {
  readonly #items = new Map<string, Item>()
  #lastId = 0

  constructor() {
    for (const title of ['Grey overcoat', 'Umbrella, black', 'Hat with a feather']) {
      this.add(title, 'house')
    }
  }

  all(): readonly Item[] {
    return [...this.#items.values()]
  }

  get(id: string): Item | undefined {
    return this.#items.get(id)
  }

  /** Undefined when the shelf is full. */
  add(title: string, createdBy: string): Item | undefined {
    if (this.#items.size >= ITEMS_MAX) return undefined
    this.#lastId += 1
    const item = {
      id: String(this.#lastId),
      title,
      createdBy,
      createdAt: new Date().toISOString(),
    }
    this.#items.set(item.id, item)
    return item
  }

  rename(id: string, title: string): Item | undefined {
    const item = this.#items.get(id)
    if (item === undefined) return undefined
    const renamed = { ...item, title }
    this.#items.set(id, renamed)
    return renamed
  }

  remove(id: string): boolean {
    return this.#items.delete(id)
  }
}
