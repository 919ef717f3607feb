/**
 * Bodies that stream: what 100 MiB each way, a thousand slow readers and a thousand slow uploads add to the resident
 * memory of a real gateway process that has done the same before.
 *
 *   npm run bench -- streaming [--clients 1000] [--mebibytes 100] [--seconds 15] [--only readers]
 *
 * Budget: 64 MiB above idle, whatever streams. Idle is a process to which as many clients did the same at once, and left:
 * what the allocators keep of that is taken again and again, and grows no further. `fresh` is one that has answered ordinary
 * calls alone. Of the rest, `highest` has garbage in it; `collected` is resident after a garbage collection, and `in use`
 * what objects and buffers then take. Kernel memory of the sockets is in none of them; docs/streaming.md says what it takes.
 */

import { createHash, type Hash } from 'node:crypto'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { signInAtOnce } from '../test/hostile/sign-in-steps.ts'
import { createBrowser } from '../test/support/browser.ts'
import { sessionCookie } from '../test/support/cookies.ts'
import { FakeProvider } from '../test/support/fake-provider.ts'
import { freePort } from '../test/support/free-port.ts'
import { type GatewayProcess, startGatewayProcess } from '../test/support/gateway-process.ts'
import { waitFor } from '../test/support/wait.ts'
import { CLIENT_ID, sidecarEnvironment } from '../test/support/whole-gateway.ts'
import { peakBytesDuring, settledBytes, usedBytes } from './support/gateway-memory.ts'
import { inParallel, printMachine, printTable, progress, rounded } from './support/measure.ts'
import { cutForMemory, enterOwnNetwork } from './support/own-network.ts'

enterOwnNetwork()

const { values } = parseArgs({
  options: {
    clients: { type: 'string', default: '1000' },
    mebibytes: { type: 'string', default: '100' },
    seconds: { type: 'string', default: '15' },
    only: { type: 'string' },
  },
})
const CLIENTS = Number(values.clients)
const BODY_BYTES = Number(values.mebibytes) * 2 ** 20
const SLOW_MS = Number(values.seconds) * 1_000
const BUDGET_BYTES = 64 * 2 ** 20
/** Each slow client moves so much at a time, so often: some 8 KiB/s. */
const SIP_BYTES = 4_096
const SIP_MS = 500
const OPENED_AT_ONCE = 50
/** Ordinary calls, so that what is measured is compiled. */
const WARM = { calls: 100, width: 20, bodyBytes: 2 ** 20 }
/** How long those before stay, once each of them moves. */
const BEFORE_MS = 2_000

const chunk = Buffer.alloc(64 * 1_024, 'coatcheck streams ')

const hashOf = (bytes: number): string => {
  const hash = createHash('sha256')
  for (let left = bytes; left > 0; left -= chunk.length) hash.update(chunk.subarray(0, left))
  return hash.digest('hex')
}

/** `/api/down?BYTES` gives so many, `/api/up` hashes what comes. */
const answer = (req: IncomingMessage, res: ServerResponse): void => {
  if (!/^Bearer \S+$/.test(req.headers.authorization ?? '')) {
    res.writeHead(401).end()
    return
  }
  const [path, query] = (req.url ?? '').split('?')
  if (path === '/api/down') {
    give(res, Number(query))
    return
  }
  const hash: Hash = createHash('sha256')
  req.on('data', (part: Buffer) => hash.update(part))
  req.on('end', () => res.end(hash.digest('hex')))
}

const give = (res: ServerResponse, bytes: number): void => {
  res.writeHead(200, { 'content-length': bytes })
  let left = bytes
  const write = () => {
    while (left > 0 && !res.destroyed) {
      const part = chunk.subarray(0, left)
      left -= part.length
      if (!res.write(part)) return
    }
    res.end()
  }
  res.on('drain', write)
  write()
}

const upstream = createServer(answer)
await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', 4_096, resolve))
const { port: upstreamPort } = upstream.address() as AddressInfo

const provider = await FakeProvider.start({ clientId: CLIENT_ID, expiresInSeconds: 3_600 })

interface Target {
  readonly gateway: GatewayProcess
  readonly port: number
  readonly inspectorPort: number
  /** Of a signed-in page's call. */
  readonly headers: Readonly<Record<string, string>>
}

/** Each scenario has a process of its own: what one has used is kept for the next one, and would hide what that takes. */
const startTarget = async (): Promise<Target> => {
  const port = await freePort()
  const inspectorPort = await freePort()
  const { COATCHECK_RESOURCE: _, ...settings } = sidecarEnvironment(port, provider, {
    url: `http://127.0.0.1:${upstreamPort}`,
  })
  const gateway = await startGatewayProcess(
    {
      ...settings,
      COATCHECK_LIMITS_BODY_BYTES: `${BODY_BYTES}B`,
      COATCHECK_UPSTREAM_TIMEOUT_IDLE: '0s',
      NODE_OPTIONS: `--inspect=127.0.0.1:${inspectorPort}`,
    },
    { port },
  )
  const browser = createBrowser()
  await signInAtOnce({ url: gateway.url }, browser)
  const cookie = sessionCookie(browser)
  return {
    gateway,
    port,
    inspectorPort,
    headers: {
      host: `localhost:${port}`,
      cookie: `${cookie?.name}=${cookie?.value}`,
      'sec-fetch-site': 'same-origin',
      'sec-fetch-mode': 'cors',
    },
  }
}

/** What the answer's body hashes to. */
const down = ({ port, headers }: Target, bytes: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const call = request({ host: '127.0.0.1', port, path: `/api/down?${bytes}`, headers })
    call.on('error', reject)
    call.on('response', (response) => {
      const hash = createHash('sha256')
      response.on('data', (part: Buffer) => hash.update(part))
      response.on('error', reject)
      response.on('end', () => resolve(hash.digest('hex')))
    })
    call.end()
  })

const up = ({ port, headers }: Target, bytes: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const call = request({
      host: '127.0.0.1',
      port,
      path: '/api/up',
      method: 'POST',
      headers: { ...headers, 'content-length': bytes },
    })
    call.on('error', reject)
    call.on('response', (response) => {
      let text = ''
      response.setEncoding('latin1').on('data', (part: string) => {
        text += part
      })
      response.on('error', reject)
      response.on('end', () => resolve(text))
    })
    let left = bytes
    const write = () => {
      while (left > 0) {
        const part = chunk.subarray(0, left)
        left -= part.length
        if (!call.write(part)) return
      }
      call.end()
    }
    call.on('drain', write)
    write()
  })

/** Takes the whole answer, as fast as it comes. */
const drop = (target: Target, bytes: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const socket = connect(target.port, '127.0.0.1')
    let beginning: string | undefined
    socket.on('error', reject)
    socket.on('data', (part: Buffer) => {
      beginning ??= part.toString('latin1').slice(0, 600)
    })
    socket.on('close', () => {
      if (socket.bytesRead > bytes) resolve()
      else reject(new Error(`${socket.bytesRead} bytes of a warm-up call came: ${beginning}`))
    })
    socket.write(headOf(target, `GET /api/down?${bytes}`, ['connection: close']))
  })

const intact = async (transfer: Promise<string>, bytes: number): Promise<void> => {
  if ((await transfer) !== hashOf(bytes)) throw new Error('what arrived is not what was sent')
}

const headOf = ({ headers }: Target, line: string, further: readonly string[] = []): string =>
  [
    `${line} HTTP/1.1`,
    ...Object.entries(headers).map((field) => field.join(': ')),
    ...further,
    '',
    '',
  ].join('\r\n')

interface Reading {
  readonly idle: number
  readonly peak: number
  readonly settled: number
  readonly used: number
}

interface SlowClient {
  readonly socket: Socket
  movedBytes: number
}

/** Takes a sip of its answer, waits, and takes the next one. */
const slowReader = (target: Target): SlowClient => {
  const socket = connect({
    host: '127.0.0.1',
    port: target.port,
    onread: {
      buffer: Buffer.alloc(SIP_BYTES),
      callback: (bytes) => {
        client.movedBytes += bytes
        setTimeout(() => socket.resume(), SIP_MS)
        return false
      },
    },
  })
  const client: SlowClient = { socket, movedBytes: 0 }
  socket.on('error', () => undefined)
  socket.write(headOf(target, `GET /api/down?${BODY_BYTES}`))
  return client
}

const slowUpload = (target: Target): SlowClient => {
  const socket = connect(target.port, '127.0.0.1')
  const client: SlowClient = { socket, movedBytes: 0 }
  socket.on('error', () => undefined)
  socket.resume()
  socket.write(headOf(target, 'POST /api/up', [`content-length: ${BODY_BYTES}`]))
  const sip = chunk.subarray(0, SIP_BYTES)
  const timer = setInterval(
    () => socket.write(sip, () => (client.movedBytes += sip.length)),
    SIP_MS,
  )
  socket.on('close', () => clearInterval(timer))
  return client
}

/** Opens them all, stays for a while, and leaves behind what `whileOpen` found. */
const withSlowClients = async <T>(
  target: Target,
  open: (target: Target) => SlowClient,
  whileOpen: () => Promise<T>,
): Promise<T> => {
  const cutBefore = cutForMemory()
  const clients: SlowClient[] = []
  while (clients.length < CLIENTS) {
    // A few at a time: a busy machine would drop what comes beyond the listener's backlog.
    const opened = Array.from({ length: OPENED_AT_ONCE }, () => open(target))
    clients.push(...opened)
    await waitFor('each client moves', () => opened.every(({ movedBytes }) => movedBytes > 0), {
      timeoutMs: 30_000,
    })
  }
  const found = await whileOpen()
  if (cutForMemory() > cutBefore) {
    throw new Error('the kernel had no memory left for sockets (net.ipv4.tcp_mem): no result')
  }
  const cut = clients.filter(({ socket }) => socket.destroyed).length
  if (cut > 0) throw new Error(`${cut} of ${CLIENTS} clients were cut off`)
  for (const { socket } of clients) socket.destroy()
  return found
}

/** Runs it once for the sake of `idle`, and once to measure it. */
const measured = async (
  { gateway, inspectorPort }: Target,
  run: <T>(stayMs: number, whileRunning: () => Promise<T>) => Promise<T>,
): Promise<Reading> => {
  await run(BEFORE_MS, async () => undefined)
  const idle = await settledBytes(gateway.pid, inspectorPort)
  const usedBefore = await usedBytes(inspectorPort)
  let settled = 0
  let used = 0
  const peak = await peakBytesDuring(
    gateway.pid,
    run(SLOW_MS, async () => {
      settled = await settledBytes(gateway.pid, inspectorPort)
      used = (await usedBytes(inspectorPort)) - usedBefore
    }),
  )
  return { idle, peak, settled, used }
}

const slowly = (target: Target, open: (target: Target) => SlowClient): Promise<Reading> =>
  measured(target, (stayMs, whileRunning) =>
    withSlowClients(target, open, async () => {
      await sleep(stayMs)
      return whileRunning()
    }),
  )

const once = (target: Target, transfer: () => Promise<void>): Promise<Reading> =>
  measured(target, async (_, whileRunning) => {
    await transfer()
    return whileRunning()
  })

type Scenario = readonly [name: string, run: (target: Target) => Promise<Reading>]
const SCENARIOS: readonly Scenario[] = [
  [
    `${values.mebibytes} MiB down`,
    (target) => once(target, () => intact(down(target, BODY_BYTES), BODY_BYTES)),
  ],
  [
    `${values.mebibytes} MiB up`,
    (target) => once(target, () => intact(up(target, BODY_BYTES), BODY_BYTES)),
  ],
  [`${CLIENTS} slow readers`, (target) => slowly(target, slowReader)],
  [`${CLIENTS} slow uploads`, (target) => slowly(target, slowUpload)],
]

const mebibytes = (bytes: number): string => rounded(bytes / 2 ** 20)
const rows: string[][] = []
let isWithin = true
printMachine()
for (const [name, run] of SCENARIOS) {
  if (values.only !== undefined && !name.includes(values.only)) continue
  progress(name)
  const target = await startTarget()
  await inParallel(WARM.calls, WARM.width, () => drop(target, WARM.bodyBytes))
  const fresh = await settledBytes(target.gateway.pid, target.inspectorPort)
  const { idle, peak, settled, used } = await run(target)
  await target.gateway.kill()
  const isGood = peak - idle <= BUDGET_BYTES
  isWithin &&= isGood
  const above = [peak - idle, settled - idle, used]
  rows.push([name, ...[fresh, idle, ...above].map(mebibytes), isGood ? 'yes' : 'NO'])
}
printTable(
  `Resident memory, MiB; what streams may add ${mebibytes(BUDGET_BYTES)} to idle`,
  ['what streams', 'fresh', 'idle', 'highest', 'collected', 'in use', 'within'],
  rows,
)
process.exitCode = isWithin ? 0 : 1
await provider.close()
upstream.closeAllConnections()
upstream.close()
