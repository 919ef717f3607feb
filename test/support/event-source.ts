/** An event stream as a page reads it, without the reconnecting: every event, comment and its end, with their times. */

import http from 'node:http'
import { waitFor } from './wait.ts'

export interface StreamedEvent {
  readonly event: string
  readonly id: string | undefined
  readonly data: Readonly<Record<string, unknown>>
  /** `performance.now()` when it arrived. */
  readonly at: number
}

export interface EventStream {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly events: readonly StreamedEvent[]
  /** As it came. */
  readonly text: () => string
  readonly hasEnded: () => boolean
  /** The first event of that name that has come or comes yet. */
  next(event: string, timeoutMs?: number): Promise<StreamedEvent>
  /** Resolves when the server has ended it. */
  ended(timeoutMs?: number): Promise<void>
  close(): void
}

export interface EventStreamRequest {
  readonly port: number
  readonly cookie?: string | undefined
  readonly path?: string
  readonly method?: string
  readonly headers?: http.OutgoingHttpHeaders
  readonly agent?: http.Agent
}

/** What a browser says of an EventSource of the application's own page. */
const OF_OUR_PAGE = {
  accept: 'text/event-stream',
  'sec-fetch-site': 'same-origin',
  'sec-fetch-mode': 'cors',
  'sec-fetch-dest': 'empty',
}

/** Resolves with the head of the answer, whatever its status. */
export const openEventStream = ({
  port,
  cookie,
  path = '/bff/events',
  method = 'GET',
  headers = OF_OUR_PAGE,
  agent,
}: EventStreamRequest): Promise<EventStream> =>
  new Promise((resolve, reject) => {
    const request = http.request({
      host: '127.0.0.1',
      port,
      path,
      method,
      agent: agent ?? false,
      headers: {
        host: `localhost:${port}`,
        ...headers,
        ...(cookie === undefined ? {} : { cookie }),
      },
    })
    request.on('error', reject)
    request.on('response', (response) => {
      let text = ''
      let hasEnded = false
      const events: StreamedEvent[] = []
      let rest = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
        const blocks = (rest + chunk).split('\n\n')
        rest = blocks.pop() ?? ''
        for (const block of blocks) {
          const event = parsed(block)
          if (event !== undefined) events.push(event)
        }
      })
      response.on('error', () => {
        // Cut: it has ended all the same.
      })
      response.on('close', () => {
        hasEnded = true
      })
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        events,
        text: () => text,
        hasEnded: () => hasEnded,
        next: (name, timeoutMs = 5_000) =>
          waitFor(`the event ${name}`, () => events.find(({ event }) => event === name), {
            timeoutMs,
            intervalMs: 5,
          }),
        ended: async (timeoutMs = 5_000) => {
          await waitFor('the stream ends', () => hasEnded, { timeoutMs, intervalMs: 5 })
        },
        close: () => {
          request.destroy()
        },
      })
    })
    request.end()
  })

const parsed = (block: string): StreamedEvent | undefined => {
  const field = (name: string) =>
    block
      .split('\n')
      .find((line) => line.startsWith(`${name}: `))
      ?.slice(name.length + 2)
  const data = field('data')
  return data === undefined
    ? undefined
    : {
        event: field('event') ?? 'message',
        id: field('id'),
        data: JSON.parse(data) as Record<string, unknown>,
        at: performance.now(),
      }
}
