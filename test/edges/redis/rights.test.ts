/** The rights that docs/session-data.md gives the gateway's user: all are needed, and nothing else can be done with them. */

import { expect, it } from 'vitest'
import { failureReason } from '../../../src/edges/redis/failure.ts'
import { epochMs, milliseconds, seconds, systemClock } from '../../../src/time.ts'
import { untilTold } from '../../contract/session-changes.contract.ts'
import { newIndex } from '../../contract/session-directory.contract.ts'
import { newAttemptId, newDigest } from '../../contract/session-store.contract.ts'
import { connect, connectPlainly, oneHourRecord, start, works } from './connected.ts'
import { documentedRights } from './documented-rights.ts'

const startRestricted = async () => {
  const server = await start()
  const admin = connectPlainly(server.url)
  const { single } = await documentedRights('works')
  await admin.acl('SETUSER', ...single)
  return { admin, rules: single, url: `redis://coatcheck:works@127.0.0.1:${server.port}/1` }
}

it('every command among them is used', async () => {
  const { admin, rules, url } = await startRestricted()
  const { sessions, directory, lease, once, ...stores } = connect(url)
  await works({ sessions, directory, lease, once, ...stores })
  await untilTold(stores.changes)
  const digest = newDigest()
  const taking = {
    owner: newAttemptId(),
    attemptId: newAttemptId(),
    generation: 0,
    leaseTime: milliseconds(2_000),
    giveUpTime: milliseconds(7_000),
  }
  await sessions.create(digest, oneHourRecord(), systemClock.now())
  await sessions.touch(digest, epochMs(systemClock.now() + 1))
  await lease.take(digest, taking)
  await lease.renew(digest, taking)
  await sessions.replace(digest, 0, taking.attemptId, oneHourRecord(1))
  // The second time each script goes by its digest.
  await sessions.end(digest, 'logout', systemClock.now())
  await sessions.end(digest, 'logout', systemClock.now())
  const index = newIndex()
  await directory.enter(index, digest, epochMs(systemClock.now() + 60_000), systemClock.now())
  await directory.list(index, undefined)
  await directory.listAll(undefined)
  await directory.leave(index, digest)
  await once.put(newDigest(), Buffer.from('x'), seconds(60))
  await once.take(newDigest())

  const used = [...(await admin.info('commandstats')).matchAll(/^cmdstat_([^:]+):/gm)].map(
    ([, command]) => `+${command}`,
  )
  const granted = rules.filter((rule) => rule.startsWith('+'))
  expect(granted.length).toBeGreaterThan(10)
  expect(granted.filter((right) => !used.includes(right))).toEqual([])
  expect(stores.notices).toEqual([])
})

it.each([
  ['keys of others', ['GET', 'other:key']],
  ['keys of others in a script', ['EVAL', "return redis.call('GET', 'other:key')", '0']],
  ['a list of all keys', ['KEYS', '*']],
  ['the settings of the server', ['CONFIG', 'GET', '*']],
  ['an empty database', ['FLUSHDB']],
  ['other users', ['ACL', 'LIST']],
  ['messages', ['PUBLISH', 'channel', 'message']],
] as const)('they do not give %s', async (_, [command, ...args]) => {
  const { url } = await startRestricted()
  const user = connectPlainly(url, { enableReadyCheck: false })
  await expect(user.call(command, ...args)).rejects.toSatisfy(
    (error: unknown) => failureReason(error) === 'permission_refused',
  )
})
