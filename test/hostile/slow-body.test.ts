/**
 * Attack: many connections whose bodies never end, or break off, so that each holds a place for ever or fills the log
 * with faults that are none. All stall side by side here, as the attacker's would.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { rawClient } from '../edges/upstream/raw-sockets.ts'
import { waitFor, within } from '../support/wait.ts'
import { startWholeGateway, type WholeGateway } from '../support/whole-gateway.ts'

let whole: WholeGateway
let formPost: WholeGateway
beforeAll(async () => {
  whole = await startWholeGateway()
  formPost = await startWholeGateway({ env: { COATCHECK_PROVIDER_RESPONSE_MODE: 'form_post' } })
})
afterAll(async () => {
  await whole.close()
  await formPost.close()
})

const head = (port: number, target: string, type: string, length: string) =>
  `POST ${target} HTTP/1.1\r\nHost: localhost:${port}\r\nX-CSRF: 1\r\nContent-Type: ${type}\r\n${length}\r\n\r\n`

it('ASVS 13.2.6 a body that stalls ends in an answer and the connection’s end, wherever it is read', async () => {
  const form = 'application/x-www-form-urlencoded'
  const stalled = await Promise.all(
    [
      head(whole.port, '/bff/login', 'application/json', 'Content-Length: 100'),
      head(whole.port, '/bff/login', 'application/json', 'Transfer-Encoding: chunked'),
      head(whole.port, '/bff/logout', 'application/json', 'Content-Length: 100'),
      head(whole.port, '/bff/logout', form, 'Content-Length: 100'),
    ]
      .map((bytes) => rawClient(whole.port, bytes))
      .concat(
        rawClient(
          formPost.port,
          `${head(formPost.port, '/bff/callback', form, 'Content-Length: 100')}code=x`,
        ),
      ),
  )
  await Promise.all(
    stalled.map(async (client) => {
      await within(14_000, 'the connection ends', client.closed)
      expect(client.received()).toMatch(/^HTTP\/1\.1 400 /)
      expect(client.received()).toContain('request_invalid')
    }),
  )
}, 20_000)

it('a client that leaves in the middle of its body is no fault of the gateway', async () => {
  const before = whole.log.length
  for (const start of ['{', '']) {
    const client = await rawClient(
      whole.port,
      `${head(whole.port, '/bff/login', 'application/json', 'Content-Length: 100')}${start}`,
    )
    await sleep(50)
    client.socket.destroy()
  }
  const garbled = await rawClient(
    whole.port,
    `${head(whole.port, '/bff/login', 'application/json', 'Transfer-Encoding: chunked')}no size\r\n`,
  )
  await garbled.receives(/^HTTP\/1\.1 400 /)
  const lines = await waitFor('all are logged', () => {
    const seen = whole.log.slice(before).filter(({ reason }) => reason === 'body_broken_off')
    return seen.length === 3 && whole.log.slice(before)
  })
  expect(lines.filter(({ level }) => level === 'error')).toEqual([])
})
