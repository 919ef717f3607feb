/**
 * What an open event stream costs: resident memory of a real gateway process, with 0, 500, 1,000 … streams, after a
 * garbage collection each (asked for over the inspector, which is there in all of them alike).
 *
 *   npm run bench -- event-streams [--streams 1000] [--redis]
 *
 * Budget: 30 KiB for a stream at most, 15 KiB wanted. Sessions are signed in before the first reading and have two
 * streams each. Kernel memory of the sockets is not in a process's resident memory, and so is not in here.
 */

import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { signInAtOnce } from '../test/hostile/sign-in-steps.ts'
import { createBrowser } from '../test/support/browser.ts'
import { sessionCookie } from '../test/support/cookies.ts'
import { FakeProvider } from '../test/support/fake-provider.ts'
import { freePort } from '../test/support/free-port.ts'
import { type GatewayProcess, startGatewayProcess } from '../test/support/gateway-process.ts'
import { startRedis } from '../test/support/redis.ts'
import { waitFor } from '../test/support/wait.ts'
import { CLIENT_ID, sidecarEnvironment } from '../test/support/whole-gateway.ts'
import { printBudgets } from './support/budgets.ts'
import { printMachine, printTable, progress, rounded } from './support/measure.ts'

const { values } = parseArgs({
  options: {
    streams: { type: 'string', default: '1000' },
    redis: { type: 'boolean', default: false },
  },
})
const STREAMS = Number(values.streams)
const STREAMS_PER_SESSION = 2
const SETTLED_MS = 5_000
const SIGN_INS_AT_ONCE = 8

const provider = await FakeProvider.start({ clientId: CLIENT_ID, expiresInSeconds: 3_600 })
const redis = values.redis ? await startRedis() : undefined
const port = await freePort()
const inspectorPort = await freePort()
const { COATCHECK_RESOURCE: _, ...settings } = sidecarEnvironment(port, provider, {
  url: 'http://127.0.0.1:9',
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

/** `HeapProfiler.collectGarbage`, answered when it is done. */
const collectGarbage = async (): Promise<void> => {
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

const residentKib = ({ pid }: GatewayProcess): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])

const settledKib = async (): Promise<number> => {
  await sleep(SETTLED_MS)
  await collectGarbage()
  await sleep(1_000)
  await collectGarbage()
  return residentKib(gateway)
}

const openStreams = async (): Promise<number> => {
  const text = await (await fetch(`${gateway.operationsUrl}/metrics`)).text()
  return Number(/^coatcheck_event_streams (\d+)$/m.exec(text)?.[1])
}

const signIn = async (): Promise<string> => {
  const browser = createBrowser()
  await signInAtOnce({ url: gateway.url }, browser)
  const cookie = sessionCookie(browser)
  if (cookie === undefined) throw new Error('the sign-in set no cookie')
  return `${cookie.name}=${cookie.value}`
}

/** As a browser asks for it; what comes is read and dropped. */
const openStream = (cookie: string): Socket => {
  const socket = connect(port, '127.0.0.1')
  socket.resume()
  socket.write(
    [
      'GET /bff/events HTTP/1.1',
      `Host: localhost:${port}`,
      'Accept: text/event-stream',
      'Accept-Encoding: gzip, deflate, br, zstd',
      'Accept-Language: en-GB,en;q=0.9',
      'Cache-Control: no-cache',
      `Referer: http://localhost:${port}/orders`,
      'Sec-Fetch-Site: same-origin',
      'Sec-Fetch-Mode: cors',
      'Sec-Fetch-Dest: empty',
      'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36',
      `Cookie: ${cookie}`,
      '',
      '',
    ].join('\r\n'),
  )
  return socket
}

printMachine()
const cookies: string[] = []
while (cookies.length < STREAMS / STREAMS_PER_SESSION)
  cookies.push(...(await Promise.all(Array.from({ length: SIGN_INS_AT_ONCE }, signIn))))

const sockets: Socket[] = []
const emptyKib = await settledKib()
const rows = [['0', String(emptyKib), '']]
let eachKib = Number.NaN
for (const step of [STREAMS / 2, STREAMS]) {
  while (sockets.length < step)
    sockets.push(openStream(cookies[Math.floor(sockets.length / STREAMS_PER_SESSION)] ?? ''))
  await waitFor(`${step} streams are open`, async () => (await openStreams()) === step, {
    timeoutMs: 60_000,
    intervalMs: 500,
  })
  const kib = await settledKib()
  eachKib = (kib - emptyKib) / step
  rows.push([String(step), String(kib), rounded(eachKib)])
  progress(`${step} streams are open`)
}

for (const socket of sockets) socket.destroy()
await waitFor('all streams are gone', async () => (await openStreams()) === 0, {
  timeoutMs: 30_000,
})
rows.push(['0 again', String(await settledKib()), ''])
printTable(
  `Resident memory of the gateway, sessions in ${values.redis ? 'Redis' : 'memory'}`,
  ['streams', 'RSS KiB', 'KiB each'],
  rows,
)
printBudgets([
  {
    what: `an open event stream, of ${STREAMS}`,
    measured: eachKib,
    must: 30,
    aim: 15,
    unit: 'KiB',
  },
])
await gateway.kill()
await redis?.close()
await provider.close()
