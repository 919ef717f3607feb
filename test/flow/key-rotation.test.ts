/**
 * The key ring in motion, as docs/key-rotation.md says it: two gateway processes on one Redis read their secrets from
 * files that change 5 s apart, under traffic with 2-second tokens. Nobody is signed out.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { ringIdOf } from '../../src/session/key-ring.ts'
import { sessionCookie } from '../support/cookies.ts'
import { type Replicas, startReplicas } from '../support/replicas.ts'
import { answerJson } from '../support/upstream-api.ts'
import { waitFor } from '../support/wait.ts'
import { refusedPageSocket } from '../support/web-sockets.ts'
import { CLIENT_SECRET, clientOf, startWholeGateway } from '../support/whole-gateway.ts'

type Name = 'A' | 'B' | 'C'
const secretOf = (name: Name) => `ring-secret-${name}-of-more-than-32-characters`
const BETWEEN_REPLICAS_MS = 5_000

interface Rig {
  readonly replicas: Replicas
  /** What the operator does: the new list reaches one replica, and 5 s later the other. */
  change(...names: Name[]): Promise<void>
  /** What the operator looks at before the next step: which secret seals on every replica. */
  untilSealedWith(name: Name): Promise<void>
  /** Until nobody came under an outdated secret any more, for as many calls as it takes to hear of everybody. */
  untilRenewed(traffic: Traffic): Promise<void>
}

const start = async (
  { onTestFinished }: { onTestFinished: (close: () => Promise<void>) => void },
  ...first: Name[]
): Promise<Rig> => {
  const directory = mkdtempSync(join(tmpdir(), 'coatcheck-ring-'))
  const fileOf = (replica: number) => join(directory, `ring-${replica}`)
  const write = (replica: number, names: readonly Name[]) =>
    writeFileSync(fileOf(replica), `${names.map(secretOf).join('\n')}\n`)
  for (const replica of [0, 1]) write(replica, first)
  const replicas = await startReplicas({
    env: (index) => ({ COATCHECK_SECRET: '', COATCHECK_SECRET_FILE: fileOf(index) }),
  })
  onTestFinished(async () => {
    await replicas.close()
    rmSync(directory, { recursive: true })
  })

  const read = async (replica: number, names: readonly Name[]) => {
    write(replica, names)
    replicas.gateways[replica]?.signal('SIGHUP')
    await waitFor(`replica ${replica} has read ${names}`, async () => {
      const ids = [...(await metrics(replicas, replica)).matchAll(SECRETS)].map(([, id]) => id)
      return ids.toSorted().join() === names.map(idOf).toSorted().join()
    })
  }
  return {
    replicas,
    change: async (...names) => {
      await read(0, names)
      await sleep(BETWEEN_REPLICAS_MS)
      await read(1, names)
    },
    untilSealedWith: (name) =>
      waitFor(
        `both seal with ${name}`,
        async () =>
          (await everyMetrics(replicas)).every((text) => SEALS.exec(text)?.[1] === idOf(name)),
        { timeoutMs: 40_000, intervalMs: 250 },
      ).then(() => undefined),
    untilRenewed: async (traffic) => {
      let before = -1
      for (;;) {
        const renewed = (await everyMetrics(replicas))
          .flatMap((text) => [...text.matchAll(RENEWED)].map(([, count]) => Number(count)))
          .reduce((sum, count) => sum + count, 0)
        if (renewed === before) return
        before = renewed
        await traffic.everybodyWasSeen()
      }
    },
  }
}

const idOf = (name: Name) => String(ringIdOf(secretOf(name)))
const SECRETS = /^coatcheck_key_ring_secrets\{id="(\d+)",use="\w+"\} 1$/gm
const SEALS = /^coatcheck_key_ring_secrets\{id="(\d+)",use="seals"\} 1$/m
const RENEWED = /^coatcheck_seals_renewed_total\{of="\w+"\} (\d+)$/gm

const metrics = async (replicas: Replicas, replica: number) =>
  (await fetch(`${replicas.gateways[replica]?.operationsUrl}/metrics`)).text()
const everyMetrics = (replicas: Replicas) =>
  Promise.all([0, 1].map((replica) => metrics(replicas, replica)))

interface Traffic {
  readonly sessions: readonly { readonly cookie: string; readonly calls: number }[]
  readonly failures: readonly string[]
  join(): Promise<void>
  /** Each session has called both replicas twice since. */
  everybodyWasSeen(): Promise<void>
  stop(): Promise<void>
}

/** Each session calls one replica and the other in turn, all the time, and keeps the newest cookie, as a browser does. */
const startTraffic = (
  { onTestFinished }: { onTestFinished: (close: () => Promise<void>) => void },
  replicas: Replicas,
): Traffic => {
  const sessions: { cookie: string; calls: number }[] = []
  const failures: string[] = []
  const loops: Promise<void>[] = []
  let stopped = false

  const callOn = async (session: { cookie: string; calls: number }) => {
    while (!stopped) {
      const answer = await replicas.call(session.calls % 2, session.cookie)
      session.calls += 1
      if (answer.status !== 200) failures.push(`${answer.status} ${answer.code}`)
      for (const line of answer.headers['set-cookie'] ?? []) {
        if (/max-age=0/i.test(line)) failures.push('cookie cleared')
        session.cookie = line.split(';', 1)[0] ?? ''
      }
      await sleep(40)
    }
  }
  const stop = async () => {
    stopped = true
    await Promise.all(loops)
  }
  onTestFinished(stop)
  return {
    sessions,
    failures,
    stop,
    join: async () => {
      const session = { cookie: await replicas.signIn(), calls: 0 }
      sessions.push(session)
      loops.push(
        callOn(session).catch((thrown: unknown) => {
          failures.push(String(thrown))
        }),
      )
    },
    everybodyWasSeen: async () => {
      const before = sessions.map(({ calls }) => calls)
      await waitFor('everybody was seen', () =>
        sessions.every(({ calls }, place) => calls >= (before[place] ?? 0) + 4),
      )
    },
  }
}

const expectNobodySignedOut = async ({ replicas }: Rig, traffic: Traffic) => {
  await traffic.stop()
  expect(new Set(traffic.failures)).toEqual(new Set())
  for (const { cookie } of traffic.sessions)
    for (const replica of [0, 1]) {
      const answer = await replicas.call(replica, cookie, '/bff/session')
      expect(JSON.parse(answer.body)).toMatchObject({ authenticated: true })
    }
  expect(replicas.refreshes().filter(({ status }) => status !== 200)).toEqual([])
  expect(replicas.provider.revokedGrants()).toEqual([])
}

test('a record whose secret left the ring leads nowhere, and its cookie is not cleared', async (context) => {
  const directory = mkdtempSync(join(tmpdir(), 'coatcheck-ring-'))
  const write = (...names: Name[]) =>
    writeFileSync(join(directory, 'ring'), names.map(secretOf).join(','))
  write('A', 'B')
  const whole = await startWholeGateway({
    env: { COATCHECK_SECRET: '', COATCHECK_SECRET_FILE: join(directory, 'ring') },
  })
  context.onTestFinished(async () => {
    await whole.close()
    rmSync(directory, { recursive: true })
  })
  const browser = await whole.signedIn()
  const kept = sessionCookie(browser)
  write('B', 'A')
  whole.reread()
  const renewed = await browser.fetch('/api/items')
  expect(renewed.status).toBe(200)
  expect(renewed.headerLines('set-cookie')).toEqual([
    expect.stringContaining(`=Fe26.2*${idOf('B')}*`),
  ])
  write('A')
  whole.reread()
  // As if the answer with the new cookie had got lost: this one opens, and what it leads to does not.
  browser.jar.set(
    `${kept?.name}=${kept?.value}; Path=/; Secure; HttpOnly; SameSite=Strict`,
    new URL(whole.url),
  )
  const refused = await browser.fetch('/api/items')
  expect(refused.json()).toMatchObject({ status: 401, code: 'session_required' })
  expect(whole.log.at(-1)).toMatchObject({ event: 'request_refused', reason: 'not_opened' })
  const out = await browser.fetch('/bff/logout', { method: 'POST' })
  expect([out.status, out.headerLines('set-cookie')]).toEqual([200, []])
})

test('RFC 9111 §3 an answer that brings a cookie under the new secret is for no cache, whatever its route allows', async (context) => {
  const directory = mkdtempSync(join(tmpdir(), 'coatcheck-ring-'))
  const write = (...names: Name[]) =>
    writeFileSync(join(directory, 'ring'), names.map(secretOf).join(','))
  write('A', 'B')
  const whole = await startWholeGateway({
    env: {
      COATCHECK_UPSTREAM: undefined,
      COATCHECK_SECRET: '',
      COATCHECK_SECRET_FILE: join(directory, 'ring'),
    },
    file: ({ api }) => ({
      routes: [
        {
          path: '/api',
          upstream: api,
          accept: ['session', 'anonymous'],
          credential: 'none',
          cache: 'upstream',
          webSocket: true,
        },
      ],
    }),
  })
  context.onTestFinished(async () => {
    await whole.close()
    rmSync(directory, { recursive: true })
  })
  whole.api.answerWith(answerJson({}, 200, { 'cache-control': 'public, max-age=600' }))
  const browser = await whole.signedIn()
  const before = await browser.fetch('/api/logo')
  expect(before.headerLines('cache-control')).toEqual(['public, max-age=600'])
  write('B', 'A')
  whole.reread()
  const renewed = await browser.fetch('/api/logo')
  expect(renewed.headerLines('set-cookie')).toEqual([
    expect.stringContaining(`=Fe26.2*${idOf('B')}*`),
  ])
  expect(renewed.headerLines('cache-control')).toEqual(['private, no-store'])

  const { name, value } = sessionCookie(browser) ?? expect.unreachable()
  write('A', 'B')
  whole.reread()
  // This API speaks no WebSocket, and answers as it answers calls.
  const { headers } = await refusedPageSocket({
    port: whole.port,
    origin: whole.url,
    cookie: `${name}=${value}`,
  })
  expect(headers['set-cookie']).toEqual([expect.stringContaining(`=Fe26.2*${idOf('A')}*`)])
  expect(headers['cache-control']).toBe('private, no-store')
})

describe.concurrent('secrets from files that change 5 s apart', { timeout: 150_000 }, () => {
  test('the walk [A] → [A,B] → [B,A] → [B] → [B,C] → [C,B] signs nobody out', async (context) => {
    const rig = await start(context, 'A')
    const traffic = startTraffic(context, rig.replicas)
    for (let count = 0; count < 6; count += 1) await traffic.join()

    const steps: readonly [names: Name[], before?: () => Promise<void>][] = [
      [['A', 'B']],
      [['B', 'A'], () => rig.untilSealedWith('B')],
      [['B']],
      [['B', 'C']],
      [['C', 'B'], () => rig.untilSealedWith('C')],
    ]
    for (const [names, wait] of steps) {
      const refreshed = rig.replicas.refreshes().length
      const signingIn = traffic.join()
      await rig.change(...names)
      await signingIn
      await wait?.()
      await rig.untilRenewed(traffic)
      expect(rig.replicas.refreshes().length, `refreshes during ${names}`).toBeGreaterThan(
        refreshed,
      )
    }
    await expectNobodySignedOut(rig, traffic)
    // All of them left A behind, and B too: nothing in the browsers is under either.
    for (const { cookie } of traffic.sessions) expect(cookie).toContain(`=Fe26.2*${idOf('C')}*`)
  })

  test('client secret and admin token follow their files too; a provider that changed first costs 503, never 401', async (context) => {
    const directory = mkdtempSync(join(tmpdir(), 'coatcheck-secrets-'))
    context.onTestFinished(() => rmSync(directory, { recursive: true }))
    const write = (name: string, text: string) => writeFileSync(join(directory, name), text)
    const [former, next] = [
      'admin-token-1-of-32-characters-or-more',
      'admin-token-2-of-32-characters-or-more',
    ]
    write('client', CLIENT_SECRET)
    write('admin', former)
    const replicas = await startReplicas({
      env: () => ({
        COATCHECK_CLIENT_SECRET: '',
        COATCHECK_CLIENT_SECRET_FILE: join(directory, 'client'),
        COATCHECK_ADMIN_TOKEN_FILE: join(directory, 'admin'),
      }),
    })
    context.onTestFinished(() => replicas.close())
    const reread = () => {
      for (const gateway of replicas.gateways) gateway.signal('SIGHUP')
    }
    const statusOf = async (token: string) =>
      (
        await fetch(`${replicas.gateways[0]?.operationsUrl}/admin/sessions`, {
          headers: { authorization: `Bearer ${token}` },
        })
      ).status

    expect([await statusOf(former), await statusOf(next)]).toEqual([200, 401])
    write('admin', `${former}\n${next}\n`)
    reread()
    await waitFor('the next token is accepted', async () => (await statusOf(next)) === 200)
    expect(await statusOf(former)).toBe(200)
    write('admin', next)
    reread()
    await waitFor('the former token is refused', async () => (await statusOf(former)) === 401)

    const cookie = await replicas.signIn()
    const changed = 'another-client-secret-of-32-characters-or-more'
    await replicas.provider.registerClient({
      ...clientOf(replicas.publicUrl),
      clientSecret: changed,
    })
    const answers: (string | number)[] = []
    const callUntil = (status: number) =>
      waitFor(
        `an answer ${status}`,
        async () => {
          const { status: answered, code } = await replicas.call(answers.length % 2, cookie)
          answers.push(code ?? answered)
          return answered === status
        },
        { timeoutMs: 70_000, intervalMs: 100 },
      )
    await callUntil(503)
    write('client', changed)
    reread()
    await callUntil(200)
    expect(new Set(answers)).toEqual(new Set([200, 'provider_unavailable']))
  })

  test('a new first secret that was never appended signs nobody out either: it seals once the others have it', async (context) => {
    const rig = await start(context, 'A')
    const traffic = startTraffic(context, rig.replicas)
    for (let count = 0; count < 4; count += 1) await traffic.join()
    await rig.change('B', 'A')
    await rig.untilSealedWith('B')
    await traffic.everybodyWasSeen()
    await expectNobodySignedOut(rig, traffic)
  })
})
