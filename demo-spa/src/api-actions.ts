/** What the buttons of the API panel do: plain calls, and one event stream. */

import { type Call, call, type Settle } from './api.ts'
import { announce } from './dom.ts'
import type { ApiActions, ApiNews, Item } from './panels.ts'

const SLOW_MS = 3_000

export const apiActions = (page: {
  readonly settle: Settle
  readonly show: (news: ApiNews) => void
  /** An EventSource does not tell why it was refused; a plain call does. */
  readonly askWhy: () => void
  readonly ended: AbortSignal
}): ApiActions => {
  const { settle, show } = page
  let stream: EventSource | undefined
  page.ended.addEventListener('abort', () => stream?.close())

  const onCall = (made: Call) => {
    show({ kind: 'call', call: made })
    announce(`${made.method} ${made.path}: ${made.status}`)
  }
  const list = async () => {
    const answer = settle(
      await call<{ readonly items: readonly Item[] }>('GET', '/api/items', { onCall }),
    )
    if (answer !== undefined) show({ kind: 'items', items: answer.items })
  }
  const closeStream = (text: string) => {
    stream?.close()
    stream = undefined
    show({ kind: 'stream', open: false, text })
  }
  return {
    list,
    add: async (title) => {
      const added = settle(await call<Item>('POST', '/api/items', { body: { title }, onCall }))
      if (added !== undefined) await list()
      return added !== undefined
    },
    remove: async (item) => {
      settle(await call('DELETE', `/api/items/${item.id}`, { onCall }))
      await list()
    },
    slow: async () => {
      settle(await call('GET', `/api/slow?ms=${SLOW_MS}`, { onCall }))
    },
    // #region stream
    toggleStream: () => {
      if (stream !== undefined) return closeStream('The stream was stopped.')
      stream = new EventSource('/api/stream')
      show({ kind: 'stream', open: true, text: 'Waiting for the first event …' })
      stream.addEventListener('tick', ({ data }) =>
        show({ kind: 'stream', open: true, text: `event: tick\ndata: ${data}` }),
      )
      stream.addEventListener('error', () => {
        if (stream?.readyState !== EventSource.CLOSED) return
        closeStream('The stream was refused.')
        page.askWhy()
      })
    },
    // #endregion
  }
}
