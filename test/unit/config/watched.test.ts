/** Secrets from files: followed while the gateway runs, by content and by path. */

import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { loadConfig } from '../../../src/config/load.ts'
import { watchSecrets } from '../../../src/config/watched.ts'
import { createFakeClock } from '../../support/fake-clock.ts'
import { emptyDirectory, MINIMAL, OTHER_SECRET, RING_SECRET } from './minimal.ts'

const PERIOD_MS = 10_000

const follow = (
  files: Readonly<Record<string, string>>,
  variables: Readonly<Record<string, string>>,
) => {
  const directory = emptyDirectory(files)
  const env: Record<string, string | undefined> = { ...MINIMAL }
  for (const [variable, file] of Object.entries(variables)) {
    delete env[variable]
    env[`${variable}_FILE`] = join(directory, file)
  }
  const loaded = loadConfig({ env, cwd: emptyDirectory() })
  const clock = createFakeClock()
  const warnings: string[] = []
  const watching = watchSecrets(loaded, { clock, warn: (warning) => warnings.push(warning) })
  onTestFinished(() => watching.stop())
  return {
    directory,
    config: loaded.config,
    clock,
    warnings,
    watching,
    tick: () => clock.advance(PERIOD_MS),
  }
}

const followClientSecret = () => {
  const followed = follow({ secret: 'first\n' }, { COATCHECK_CLIENT_SECRET: 'secret' })
  const write = (content: string) => writeFileSync(join(followed.directory, 'secret'), content)
  return { ...followed, write }
}

test('a new content is seen within 10 seconds, and told to subscribers until they leave', async () => {
  const { config, clock, write, warnings } = followClientSecret()
  const told: string[] = []
  const leave = config.clientSecret.subscribe((secret) => told.push(secret))
  write('second\n')
  await clock.advance(PERIOD_MS - 1)
  expect(config.clientSecret.current).toBe('first')
  await clock.advance(1)
  expect(config.clientSecret.current).toBe('second')
  leave()
  write('third')
  await clock.advance(PERIOD_MS)
  expect(config.clientSecret.current).toBe('third')
  expect(told).toEqual(['second'])
  expect(warnings).toEqual([])
})

test('the same content again tells nobody', async () => {
  const { config, write, tick } = followClientSecret()
  const told: string[] = []
  config.clientSecret.subscribe((secret) => told.push(secret))
  write('first')
  await tick()
  expect(told).toEqual([])
})

test('a swapped symbolic link is seen, as Kubernetes swaps secret mounts', async () => {
  const directory = emptyDirectory({ one: RING_SECRET, two: `${OTHER_SECRET}\n${RING_SECRET}\n` })
  symlinkSync(join(directory, 'one'), join(directory, 'current'))
  const { COATCHECK_SECRET: _, ...env } = MINIMAL
  const loaded = loadConfig({
    env: { ...env, COATCHECK_SECRET_FILE: join(directory, 'current') },
    cwd: emptyDirectory(),
  })
  const clock = createFakeClock()
  const watching = watchSecrets(loaded, { clock, warn: () => undefined })
  onTestFinished(() => watching.stop())
  symlinkSync(join(directory, 'two'), join(directory, 'next'))
  renameSync(join(directory, 'next'), join(directory, 'current'))
  await clock.advance(PERIOD_MS)
  expect(loaded.config.secret?.current).toEqual([OTHER_SECRET, RING_SECRET])
})

describe('a content that cannot be used keeps the value and warns once', () => {
  test.each([
    ['a short secret', (file: string) => writeFileSync(file, 'short')],
    ['an empty file', (file: string) => writeFileSync(file, '')],
    ['no file', (file: string) => rmSync(file)],
  ])('%s', async (_, spoil) => {
    const { config, directory, warnings, tick } = follow(
      { ring: RING_SECRET },
      { COATCHECK_SECRET: 'ring' },
    )
    spoil(join(directory, 'ring'))
    for (let round = 0; round < 3; round += 1) await tick()
    expect(config.secret?.current).toEqual([RING_SECRET])
    expect(warnings).toEqual([
      expect.stringMatching(/^The file that COATCHECK_SECRET_FILE names must .*stays in use/),
    ])
    writeFileSync(join(directory, 'ring'), OTHER_SECRET)
    await tick()
    expect(config.secret?.current).toEqual([OTHER_SECRET])
    spoil(join(directory, 'ring'))
    await tick()
    expect(warnings).toHaveLength(2)
  })
})

test('the Redis URL follows its file: its password changes without a restart', async () => {
  const { config, directory, warnings, tick } = follow(
    { url: 'redis://:first@one' },
    { COATCHECK_REDIS_URL: 'url' },
  )
  writeFileSync(join(directory, 'url'), 'redis://:second@one\n')
  await tick()
  expect(config.redis.url?.current.login?.password).toBe('second')
  writeFileSync(join(directory, 'url'), 'redis://:th/ird@one\n')
  await tick()
  expect(config.redis.url?.current.login?.password).toBe('second')
  expect(warnings).toEqual([
    expect.stringMatching(/^The file that COATCHECK_REDIS_URL_FILE names must be .*stays in use/),
  ])
})

test('a setting that is read at start only says that its file changed, once', async () => {
  const { config, directory, warnings, tick } = follow(
    { idle: '5m' },
    { COATCHECK_SESSION_IDLE: 'idle' },
  )
  writeFileSync(join(directory, 'idle'), '6m')
  await tick()
  await tick()
  expect(config.session.idle).toBe(300)
  expect(warnings).toEqual([
    expect.stringContaining('COATCHECK_SESSION_IDLE_FILE names has changed'),
  ])
})

test('stop ends the wait at once, and no file is read any more', async () => {
  const { config, clock, write, watching, tick } = followClientSecret()
  watching.stop()
  write('second')
  await tick()
  expect(clock.sleeping).toBe(0)
  expect(config.clientSecret.current).toBe('first')
})

test('without files nothing waits', async () => {
  const { clock } = follow({}, {})
  expect(clock.sleeping).toBe(0)
})

test('a value from no file is constant', () => {
  const { config } = follow({}, {})
  const told: string[] = []
  config.clientSecret.subscribe((secret) => told.push(secret))()
  expect(config.clientSecret.current).toBe(MINIMAL.COATCHECK_CLIENT_SECRET)
})
