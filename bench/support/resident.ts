/** A gateway process whose resident memory is measured while things are open in it, after a garbage collection each. */

import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { signInAtOnce } from '../../test/hostile/sign-in-steps.ts'
import { createBrowser } from '../../test/support/browser.ts'
import { sessionCookie } from '../../test/support/cookies.ts'
import { FakeProvider } from '../../test/support/fake-provider.ts'
import { freePort } from '../../test/support/free-port.ts'
import { startGatewayProcess } from '../../test/support/gateway-process.ts'
import { startRedis } from '../../test/support/redis.ts'
import { waitFor } from '../../test/support/wait.ts'
import { CLIENT_ID, sidecarEnvironment } from '../../test/support/whole-gateway.ts'
import { printBudgets } from './budgets.ts'
import { printMachine, printTable, progress, rounded } from './measure.ts'

const SETTLED_MS = 5_000
const SIGN_INS_AT_ONCE = 8
const PER_SESSION = 2
const EACH_KIB_MUST = 30
const EACH_KIB_AIM = 15

export interface OpenThings {
  /** In the plural, such as `streams`. */
  readonly name: string
  readonly count: number
  readonly isInRedis: boolean
  /** What the gateway proxies to. */
  readonly upstreamUrl: string
  /** Gauge of those that are open, with its labels. */
  readonly gauge: string
  open(port: number, cookie: string): Socket
}

/**
 * Opens half of them, then all, two in each session, and prints what each costs. Sessions are signed in before the first
 * reading. Kernel memory of the sockets is not in a process's resident memory, and so is not in here.
 */
export const measureOpenThings = async (things: OpenThings): Promise<void> => {
  const { name, count, isInRedis, upstreamUrl, gauge, open } = things
  const provider = await FakeProvider.start({ clientId: CLIENT_ID, expiresInSeconds: 3_600 })
  const redis = isInRedis ? await startRedis() : undefined
  const port = await freePort()
  const inspectorPort = await freePort()
  const { COATCHECK_RESOURCE: _, ...settings } = sidecarEnvironment(port, provider, {
    url: upstreamUrl,
  })
  const gateway = await startGatewayProcess(
    {
      ...settings,
      COATCHECK_OPERATIONS_LISTEN: `127.0.0.1:${await freePort()}`,
      ...(redis === undefined ? {} : { COATCHECK_REDIS_URL: redis.url }),
      NODE_OPTIONS: `--inspect=127.0.0.1:${inspectorPort}`,
    },
    { port },
  )

  const settledKib = async (): Promise<number> => {
    await sleep(SETTLED_MS)
    await collectGarbage(inspectorPort)
    await sleep(1_000)
    await collectGarbage(inspectorPort)
    const status = readFileSync(`/proc/${gateway.pid}/status`, 'utf8')
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1])
  }
  const areOpen = async (expected: number): Promise<boolean> => {
    const text = await (await fetch(`${gateway.operationsUrl}/metrics`)).text()
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${gauge} `))
    return Number(line?.slice(gauge.length + 1) ?? 0) === expected
  }

  printMachine()
  const cookies: string[] = []
  while (cookies.length < count / PER_SESSION)
    cookies.push(
      ...(await Promise.all(Array.from({ length: SIGN_INS_AT_ONCE }, () => signIn(gateway.url)))),
    )

  const sockets: Socket[] = []
  const emptyKib = await settledKib()
  const rows = [['0', String(emptyKib), '']]
  let eachKib = Number.NaN
  for (const step of [count / 2, count]) {
    while (sockets.length < step)
      sockets.push(open(port, cookies[Math.floor(sockets.length / PER_SESSION)] ?? ''))
    await waitFor(`${step} ${name} are open`, () => areOpen(step), {
      timeoutMs: 60_000,
      intervalMs: 500,
    })
    const kib = await settledKib()
    eachKib = (kib - emptyKib) / step
    rows.push([String(step), String(kib), rounded(eachKib)])
    progress(`${step} ${name} are open`)
  }

  for (const socket of sockets) socket.destroy()
  await waitFor(`all ${name} are gone`, () => areOpen(0), { timeoutMs: 30_000 })
  rows.push(['0 again', String(await settledKib()), ''])
  printTable(
    `Resident memory of the gateway, sessions in ${isInRedis ? 'Redis' : 'memory'}`,
    [name, 'RSS KiB', 'KiB each'],
    rows,
  )
  printBudgets([
    {
      what: `open ${name}, each of ${count}`,
      measured: eachKib,
      must: EACH_KIB_MUST,
      aim: EACH_KIB_AIM,
      unit: 'KiB',
    },
  ])
  await gateway.kill()
  await redis?.close()
  await provider.close()
}

/** `HeapProfiler.collectGarbage`, answered when it is done. */
const collectGarbage = async (inspectorPort: number): Promise<void> => {
  const [target] = (await (await fetch(`http://127.0.0.1:${inspectorPort}/json`)).json()) as {
    webSocketDebuggerUrl: string
  }[]
  const inspector = new WebSocket(target?.webSocketDebuggerUrl ?? '')
  await new Promise((resolve) => inspector.addEventListener('open', resolve))
  const collected = new Promise((resolve) => inspector.addEventListener('message', resolve))
  inspector.send(JSON.stringify({ id: 1, method: 'HeapProfiler.collectGarbage' }))
  await collected
  inspector.close()
}

const signIn = async (url: string): Promise<string> => {
  const browser = createBrowser()
  await signInAtOnce({ url }, browser)
  const cookie = sessionCookie(browser)
  if (cookie === undefined) throw new Error('the sign-in set no cookie')
  return `${cookie.name}=${cookie.value}`
}

/** Fields that a browser sends with all that its page opens. */
export const pageFields = (port: number, cookie: string): readonly string[] => [
  `Host: localhost:${port}`,
  'Accept-Encoding: gzip, deflate, br, zstd',
  'Accept-Language: en-GB,en;q=0.9',
  'Cache-Control: no-cache',
  'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36',
  `Cookie: ${cookie}`,
]
