/** My devices of a user who has more sessions than a page shows. */

import { expect, test } from 'vitest'
import { createDevices } from '../../../src/logout/devices.ts'
import { createRoster } from '../../../src/session/roster.ts'
import { seconds } from '../../../src/time.ts'
import { createTestVault, newSession, tokenSet } from '../../support/vaults.ts'

const SHOWN = 100

test('the one that asks is there and first, and of the others those seen last', async () => {
  const { clock, emit, stores, records, vault } = createTestVault()
  const roster = createRoster({
    store: stores.sessions,
    directory: stores.directory,
    records,
    clock,
    emit,
    idle: seconds(1800),
  })
  const devices = createDevices({ roster, vault })
  const begin = (address: number) =>
    vault.begin(newSession(tokenSet(clock.now(), 300), clock.now()), {
      device: undefined,
      address: `192.0.2.${address}`,
    })
  const all = []
  for (let turn = 0; turn < SHOWN + 50; turn += 1) {
    all.push(await begin(turn))
    await clock.advance(1000)
  }
  for (const asking of [all[0], all[SHOWN / 2], all.at(-1)]) {
    if (asking === undefined) throw new Error('a session of the test is missing')
    const listed = await devices.list(asking)
    expect(listed).toHaveLength(SHOWN)
    expect(listed.filter(({ current }) => current)).toHaveLength(1)
    expect(listed[0]?.current).toBe(true)
    const others = listed.slice(1).map(({ lastSeenAt }) => lastSeenAt)
    expect(others).toEqual(
      all
        .filter((each) => each !== asking)
        .map(({ session }) => session.createdAt)
        .toSorted((one, other) => other - one)
        .slice(0, SHOWN - 1),
    )
  }
})
