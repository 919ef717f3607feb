/** Settings of Redis that change while the gateway runs: the new ones are used once they work, the former until then. */

import { inspect } from 'node:util'
import type { Redis } from 'ioredis'
import { expect, it } from 'vitest'
import { redisUrl } from '../../../src/config/redis-address.ts'
import { seconds, systemClock } from '../../../src/time.ts'
import { newDigest } from '../../contract/session-store.contract.ts'
import { freePort } from '../../support/free-port.ts'
import { waitFor } from '../../support/wait.ts'
import {
  changeable,
  connect,
  connectPlainly,
  oneHourRecord,
  ownKeys,
  refusal,
  start,
  works,
} from './connected.ts'

const parsed = (url: string) => redisUrl.schema.parse(url)

/** User names of the gateway's connections. */
const usersOn = async (client: Redis): Promise<readonly string[]> =>
  [...String(await client.client('LIST')).matchAll(/ name=coatcheck .* user=(\S+)/g)].map(
    ([, user = '']) => user,
  )

const startWithUsers = async (...users: readonly string[]) => {
  const server = await start()
  const client = connectPlainly(server.url)
  for (const user of users)
    await client.acl('SETUSER', user, 'on', '>works', '~*', '&*', '+@all', '-@dangerous')
  return {
    server,
    client,
    urlOf: (user: string) => `redis://${user}:works@127.0.0.1:${server.port}`,
  }
}

it('a changed login is used at once, and no call in between fails', async () => {
  const { client, urlOf } = await startWithUsers('former', 'latter')
  const address = changeable(parsed(urlOf('former')))
  const stores = connect(address)
  await works(stores)

  let isDone = false
  const traffic = (async () => {
    while (!isDone) expect(await stores.once.claim(newDigest(), seconds(60))).toBe(true)
  })()
  address.change(parsed(urlOf('latter')))
  await waitFor('only the new user is connected', async () => {
    const users = await usersOn(client)
    return users.length === 1 && users[0] === 'latter'
  })
  isDone = true
  await traffic
  // Scripts are defined on the new connection too.
  expect(await stores.sessions.create(newDigest(), oneHourRecord(), systemClock.now())).toBe(
    'created',
  )
  expect(stores.notices).toEqual([])
})

it('a login that is refused leaves the former in use, is reported once, and may be corrected', async () => {
  const { client, server, urlOf } = await startWithUsers('former', 'latter')
  const address = changeable(parsed(urlOf('former')))
  const stores = connect(address)
  await works(stores)

  address.change(parsed(`redis://latter:m1staken@127.0.0.1:${server.port}`))
  await waitFor('the operator was told', () => stores.notices.length > 0)
  await works(stores)
  expect(stores.notices).toEqual([
    ['store_change_failed', expect.stringMatching(/former stay in use.*password/)],
  ])
  expect(inspect(stores.notices)).not.toContain('m1staken')

  address.change(parsed(urlOf('latter')))
  await waitFor('only the new user is connected', async () => {
    const users = await usersOn(client)
    return users.length === 1 && users[0] === 'latter'
  })
  await works(stores)
  expect(stores.notices.map(([name]) => name)).toEqual(['store_change_failed', 'store_reachable'])
})

it('where the former is refused already, the changed login is used without it', async () => {
  const { server, urlOf } = await startWithUsers('latter')
  const address = changeable(parsed(`redis://latter:forgotten@127.0.0.1:${server.port}`))
  const stores = connect(address)
  expect(await refusal(stores.health.ping())).toMatchObject({ reason: 'authentication_refused' })
  address.change(parsed(urlOf('latter')))
  await waitFor('the store answers', () => works(stores))
})

it('where the former dies while the changed one fails, calls fail at once with its reason', async () => {
  const server = await start()
  const address = changeable(parsed(server.url))
  const stores = connect(address)
  await works(stores)
  address.change(parsed(`redis://127.0.0.1:${await freePort()}`))
  await waitFor('the operator was told', () => stores.notices.length > 0)
  await works(stores)
  await server.kill()
  await waitFor('calls are refused', async () => {
    const { reason } = await refusal(stores.health.ping())
    return reason === 'connection_refused'
  })
  await waitFor('the operator was told', () => stores.notices.length > 1)
  expect(stores.notices.map(([name]) => name)).toEqual(['store_change_failed', 'store_unreachable'])
  address.change(parsed((await start()).url))
  await waitFor('the store answers', () => works(stores))
})

it('another server is moved to', async () => {
  const [former, latter] = [await start(), await start()]
  const address = changeable(parsed(former.url))
  const stores = connect(address)
  await works(stores)
  address.change(parsed(latter.url))
  const there = connectPlainly(latter.url)
  await waitFor('claims go to the other server', async () => {
    await stores.once.claim(newDigest(), seconds(60))
    return (await ownKeys(there)).length > 0
  })
  await waitFor('the former connection is gone', async () => {
    const users = await usersOn(connectPlainly(former.url))
    return users.length === 0
  })
})

it('nothing is opened after the stores were closed', async () => {
  const { server, client, urlOf } = await startWithUsers('former', 'latter')
  const address = changeable(parsed(urlOf('former')))
  const stores = connect(address)
  await works(stores)
  address.change(parsed(urlOf('latter')))
  await stores.close()
  address.change(parsed(server.url))
  await waitFor('nobody is connected', async () => (await usersOn(client)).length === 0)
  expect(await refusal(stores.health.ping())).toMatchObject({ code: 'store_unavailable' })
})
