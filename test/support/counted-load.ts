/** Clients that call without a pause and count every call: each has a number of its own, which the API must see once. */

import http from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

export interface CountedCall {
  readonly number: number
  readonly method: string
  /** Status, or the code of the error that there was instead. */
  readonly outcome: number | string
  readonly body: string
}

export interface CountedLoad {
  readonly calls: readonly CountedCall[]
  /** Lets what is on its way come to its end. */
  stop(): Promise<readonly CountedCall[]>
}

interface Manner {
  /** Kept connections: one for each client, as browsers and pools have them. */
  readonly connections: 'kept' | 'new'
  readonly method: 'GET' | 'POST'
  /** Of the pause after each call, and between the two halves of a body. */
  readonly pauseMs: number
  readonly path: string
}

const MANNERS: readonly Manner[] = [
  { connections: 'kept', method: 'GET', pauseMs: 1, path: '/api/fast' },
  { connections: 'kept', method: 'POST', pauseMs: 5, path: '/api/fast' },
  { connections: 'kept', method: 'POST', pauseMs: 120, path: '/api/fast' },
  { connections: 'new', method: 'GET', pauseMs: 3, path: '/api/fast' },
  { connections: 'new', method: 'POST', pauseMs: 10, path: '/api/fast' },
  { connections: 'kept', method: 'GET', pauseMs: 0, path: '/api/slow' },
  { connections: 'kept', method: 'POST', pauseMs: 50, path: '/api/slow' },
]

const CALL_TIMEOUT_MS = 10_000

/** One client of each manner for each cookie. */
export const startCountedLoad = (port: number, cookies: readonly string[]): CountedLoad => {
  const calls: CountedCall[] = []
  let last = 0
  let isStopping = false

  const client = async (cookie: string, manner: Manner) => {
    const agent = new http.Agent({ keepAlive: manner.connections === 'kept', maxSockets: 1 })
    while (!isStopping) {
      last += 1
      const number = last
      calls.push({
        number,
        method: manner.method,
        ...(await call(agent, port, cookie, number, manner)),
      })
      await sleep(manner.pauseMs)
    }
    agent.destroy()
  }
  const clients = cookies.flatMap((cookie) => MANNERS.map((manner) => client(cookie, manner)))

  return {
    calls,
    stop: async () => {
      isStopping = true
      await Promise.all(clients)
      return calls
    },
  }
}

const call = (
  agent: http.Agent,
  port: number,
  cookie: string,
  number: number,
  { method, pauseMs, path }: Manner,
): Promise<Pick<CountedCall, 'outcome' | 'body'>> =>
  new Promise((resolve) => {
    const request = http.request(
      {
        agent,
        host: '127.0.0.1',
        port,
        path: `${path}?call=${number}`,
        method,
        headers: { cookie, 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' },
        timeout: CALL_TIMEOUT_MS,
      },
      (response) => {
        let body = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          body += chunk
        })
        response.on('error', failed)
        response.on('end', () => resolve({ outcome: response.statusCode ?? 0, body }))
      },
    )
    const failed = (error: NodeJS.ErrnoException) =>
      resolve({ outcome: error.code ?? error.message, body: '' })
    request.on('timeout', () => request.destroy(new Error('no answer in time')))
    request.on('error', failed)
    if (method === 'POST') {
      request.write('first half, ')
      setTimeout(() => request.end('second half'), pauseMs)
    } else request.end()
  })
