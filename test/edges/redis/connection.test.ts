/** The connection: whatever happens to Redis, callers hear `store_unavailable` in time and it comes back by itself. */

import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import { milliseconds, seconds, systemClock } from '../../../src/time.ts'
import { untilTold } from '../../contract/session-changes.contract.ts'
import { newAttemptId, newDigest } from '../../contract/session-store.contract.ts'
import { freePort } from '../../support/free-port.ts'
import { waitFor } from '../../support/wait.ts'
import {
  COMMAND_TIMEOUT_MS,
  connect,
  connectPlainly,
  oneHourRecord,
  ownKeys,
  refusal,
  SLACK_MS,
  start,
  works,
} from './connected.ts'

describe('a Redis that does not answer', () => {
  it('is store_unavailable within the timeout, and works again once it goes on', async () => {
    const server = await start()
    const stores = connect(server.url)
    await works(stores)

    server.pause()
    const startedAt = performance.now()
    const error = await refusal(stores.sessions.load(newDigest()))
    expect(performance.now() - startedAt).toBeLessThan(COMMAND_TIMEOUT_MS + SLACK_MS)
    expect(error).toMatchObject({
      code: 'store_unavailable',
      reason: 'timeout',
      retryAfterSeconds: 1,
    })

    server.resume()
    await waitFor('the store answers again', () => works(stores))
  })

  it('is given up after a while, asks nobody to wait any more, and is found again', async () => {
    const server = await start()
    const stores = connect(server.url)
    await works(stores)

    server.pause()
    await waitFor('the connection was given up', async () => {
      await refusal(stores.sessions.load(newDigest()))
      return stores.notices.length > 0
    })
    const startedAt = performance.now()
    await refusal(stores.sessions.load(newDigest()))
    expect(performance.now() - startedAt).toBeLessThan(COMMAND_TIMEOUT_MS)
    expect(stores.notices.map(([notice]) => notice)).toEqual(['store_unreachable'])

    server.resume()
    await waitFor('the store answers again', () => works(stores))
    expect(stores.notices.map(([notice]) => notice)).toEqual([
      'store_unreachable',
      'store_reachable',
    ])
  })

  it('applies a write that was reported as timed out, and its repetition succeeds', async () => {
    const server = await start()
    const { sessions } = connect(server.url)
    const digest = newDigest()
    await sessions.create(digest, oneHourRecord(), systemClock.now())
    const attemptId = newAttemptId()
    const refreshed = oneHourRecord(1)

    server.pause()
    await refusal(sessions.replace(digest, 0, attemptId, refreshed))
    server.resume()
    await waitFor('the write was applied late', async () => {
      const state = await sessions.load(digest)
      return state.kind === 'live' && state.record.generation === 1
    })
    expect(await sessions.replace(digest, 0, attemptId, refreshed)).toBe('replaced')
  })

  it('keeps nobody who closes waiting', async () => {
    const server = await start()
    const stores = connect(server.url)
    await works(stores)
    server.pause()
    const startedAt = performance.now()
    await stores.close()
    expect(performance.now() - startedAt).toBeLessThan(COMMAND_TIMEOUT_MS + SLACK_MS)
    expect((await refusal(stores.health.ping())).code).toBe('store_unavailable')
  })
})

describe('a Redis that is not there', () => {
  it('at the start neither blocks nor throws, is named once, and is used once it comes', async () => {
    const port = await freePort()
    const stores = connect(`redis://127.0.0.1:${port}`)
    const error = await refusal(stores.sessions.load(newDigest()))
    expect(error).toMatchObject({ code: 'store_unavailable', reason: 'connection_refused' })
    expect((await refusal(stores.once.claim('x', seconds(60)))).code).toBe('store_unavailable')
    expect((await refusal(stores.health.ping())).code).toBe('store_unavailable')
    await sleep(300)
    expect(stores.notices).toEqual([['store_unreachable', expect.stringContaining('Nothing')]])

    await start({ port })
    await waitFor('the store answers', () => works(stores))
    expect(stores.notices.at(-1)?.[0]).toBe('store_reachable')
  })

  it('after it was killed comes back without a restart of the gateway', async () => {
    const server = await start()
    const stores = connect(server.url)
    await works(stores)
    await server.kill()
    await waitFor('the loss is noticed', async () => {
      const { reason } = await refusal(stores.sessions.load(newDigest()))
      return reason === 'connection_refused'
    })
    await server.restart()
    await waitFor('the store answers again', () => works(stores))
  })
})

describe('a connection that breaks', () => {
  it('fails the calls under way and lets those that follow wait for the next one', async () => {
    const server = await start()
    const stores = connect(server.url)
    const client = connectPlainly(server.url)
    await works(stores)

    await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    let failed = 0
    for (let call = 0; call < 40; call += 1) {
      await stores.health.ping().catch(() => {
        failed += 1
      })
      await sleep(5)
    }
    // Without the wait, every call of the first 25 to 50 ms would fail.
    expect(failed).toBeLessThanOrEqual(2)
    expect(stores.notices).toEqual([])
  })

  it('fails a call under way at once, and the command is not sent a second time', async () => {
    const server = await start()
    const { once } = connect(server.url)
    const client = connectPlainly(server.url)
    await once.claim('before', seconds(60))

    server.pause()
    const claim = refusal(once.claim('lost', seconds(60)))
    await sleep(50)
    // Not by `kill`, which resumes the server first: it would answer.
    process.kill(server.pid, 'SIGKILL')
    expect(await claim).toMatchObject({ code: 'store_unavailable', reason: 'connection_lost' })
    await server.restart()
    await waitFor('the store answers again', () => once.claim('after', seconds(60)))
    expect(await ownKeys(client)).toEqual(['cc:test0001:c:after'])
  })
})

describe('a Redis that refuses', () => {
  it('the password says so once, keeps the process alive and never shows the password', async () => {
    const server = await start({ args: ['--requirepass', 'right-password'] })
    const stores = connect(`redis://:wrong-password@127.0.0.1:${server.port}`)
    const error = await refusal(stores.sessions.load(newDigest()))
    expect(error).toMatchObject({ code: 'store_unavailable', reason: 'authentication_refused' })
    await sleep(300)
    expect(stores.notices).toEqual([['store_unreachable', expect.stringContaining('password')]])
    expect(inspect([error, stores.notices], { depth: 10, showHidden: true })).not.toContain(
      'wrong-password',
    )
    await works(connect(`redis://:right-password@127.0.0.1:${server.port}`))
  })

  it('the scripts of a restricted user names the permission', async () => {
    const server = await start()
    const client = connectPlainly(server.url)
    const rights = ['~cc:*', '+@read', '+@connection']
    await client.acl('SETUSER', 'reader', 'on', '>reads', ...rights)
    const { sessions } = connect(`redis://reader:reads@127.0.0.1:${server.port}`)
    expect(await sessions.load(newDigest())).toEqual({ kind: 'absent' })
    const error = await refusal(sessions.create(newDigest(), oneHourRecord(), systemClock.now()))
    expect(error).toMatchObject({ code: 'store_unavailable', reason: 'permission_refused' })
  })

  it('writes for lack of memory says so, and still reads', async () => {
    const server = await start()
    const client = connectPlainly(server.url)
    const { sessions } = connect(server.url)
    const digest = newDigest()
    await sessions.create(digest, oneHourRecord(), systemClock.now())
    await client.config('SET', 'maxmemory', '1')
    const error = await refusal(sessions.create(newDigest(), oneHourRecord(), systemClock.now()))
    expect(error).toMatchObject({ code: 'store_unavailable', reason: 'out_of_memory' })
    // The client hangs the arguments on its errors: here they would be the sealed record.
    expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/Buffer|args/)
    expect((await sessions.load(digest)).kind).toBe('live')
  })

  it('writes because it became a replica is asked again over a new connection', async () => {
    const server = await start()
    const client = connectPlainly(server.url)
    const { sessions } = connect(server.url)
    await sessions.load(newDigest())
    const connectionOf = async () =>
      /\bid=(\d+)\b.* name=coatcheck /.exec(String(await client.client('LIST')))?.[1]
    const former = await connectionOf()
    expect(former).toBeDefined()

    await client.replicaof('127.0.0.1', await freePort())
    const error = await refusal(sessions.create(newDigest(), oneHourRecord(), systemClock.now()))
    expect(error).toMatchObject({ code: 'store_unavailable', reason: 'read_only' })
    await waitFor('there is a new connection', async () => {
      const present = await connectionOf()
      return present !== undefined && present !== former
    })

    await client.replicaof('NO', 'ONE')
    await waitFor('writes work again', () =>
      sessions.create(newDigest(), oneHourRecord(), systemClock.now()),
    )
  })

  it('writes for want of replicas, many a time, is not left for each of them', async () => {
    const server = await start({ args: ['--min-replicas-to-write', '1'] })
    const admin = connectPlainly(server.url)
    const warnings: Error[] = []
    const warned = (warning: Error) => warnings.push(warning)
    process.on('warning', warned)
    onTestFinished(() => {
      process.off('warning', warned)
    })
    const stores = connect(server.url, { commandTimeout: milliseconds(5_000) })
    await stores.health.ping()
    const received = async () =>
      Number(/total_connections_received:(\d+)/.exec(await admin.info('stats'))?.[1])
    const [before, startedAt] = [await received(), performance.now()]
    for (let round = 0; round < 20; round += 1)
      for (const refused of await Promise.all(
        Array.from({ length: 20 }, () => refusal(stores.once.claim(newDigest(), seconds(60)))),
      ))
        expect(['read_only', 'connection_lost']).toContain(refused.reason)
    const halfSeconds = Math.ceil((performance.now() - startedAt) / 500)
    // One that reads and writes, and one that listens.
    expect((await received()) - before).toBeLessThanOrEqual(2 * halfSeconds + 2)
    expect(warnings).toEqual([])
  })
})

describe('a Redis that works', () => {
  it('may lose its scripts at any time', async () => {
    const server = await start()
    const client = connectPlainly(server.url)
    const { sessions } = connect(server.url)
    const digest = newDigest()
    await sessions.create(digest, oneHourRecord(), systemClock.now())
    await sessions.create(newDigest(), oneHourRecord(), systemClock.now())
    await client.script('FLUSH')
    expect(await sessions.create(digest, oneHourRecord(), systemClock.now())).toBe('created')
    expect((await sessions.load(digest)).kind).toBe('live')
  })

  it('answers a load by one command', async () => {
    const server = await start()
    const client = connectPlainly(server.url)
    const { sessions, changes } = connect(server.url)
    const digest = newDigest()
    await sessions.create(digest, oneHourRecord(), systemClock.now())
    await untilTold(changes)
    await client.config('RESETSTAT')
    await sessions.load(digest)
    const commands = [
      ...(await client.info('commandstats')).matchAll(/cmdstat_([^:]+):calls=(\d+)/g),
    ]
      .map(([, command, calls]) => `${command} ${calls}`)
      // Beside ours, and what proves that changes are told.
      .filter((line) => !/^(config|ping)/.test(line))
    expect(commands).toEqual(['mget 1'])
  })

  it('keeps deployments of two namespaces apart', async () => {
    const server = await start()
    const [ours, theirs] = [
      connect(server.url, { namespace: 'ours' }),
      connect(server.url, { namespace: 'theirs' }),
    ]
    const digest = newDigest()
    await ours.sessions.create(digest, oneHourRecord(), systemClock.now())
    expect(await theirs.sessions.load(digest)).toEqual({ kind: 'absent' })
    expect(await ours.once.claim('name', seconds(60))).toBe(true)
    expect(await theirs.once.claim('name', seconds(60))).toBe(true)
  })

  it('but may evict keys is reported to the operator', async () => {
    const server = await start({ args: ['--maxmemory-policy', 'allkeys-lru'] })
    const stores = connect(server.url)
    await works(stores)
    await waitFor('the operator was told', () => stores.notices.length > 0)
    expect(stores.notices).toEqual([['store_may_evict', expect.stringContaining('allkeys-lru')]])
  })
})
