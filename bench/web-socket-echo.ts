/**
 * What an echo over a WebSocket costs: the gateway beside a tunnel that looks at nothing. Every socket sends a message,
 * waits for its echo and sends the next; the upstream takes the gateway's handshakes only with a token.
 *
 *   npm run bench -- web-socket-echo [--sockets 64] [--rounds 8] [--seconds 3]
 *
 * Processor time is the gateway's own, rounds of both take turns.
 */

import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import { WebSocket, WebSocketServer } from 'ws'
import { signInAtOnce } from '../test/hostile/sign-in-steps.ts'
import { createBrowser } from '../test/support/browser.ts'
import { startChild } from '../test/support/child.ts'
import { sessionCookie } from '../test/support/cookies.ts'
import { FakeProvider } from '../test/support/fake-provider.ts'
import { freePort } from '../test/support/free-port.ts'
import { type GatewayProcess, startGatewayProcess } from '../test/support/gateway-process.ts'
import { CLIENT_ID, sidecarEnvironment } from '../test/support/whole-gateway.ts'
import { medianOf, printMachine, printTable, rounded } from './support/measure.ts'
import { keepOn, processorMs } from './support/process-tree.ts'
import { keepFigures } from './support/results.ts'

const { values } = parseArgs({
  options: {
    sockets: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '8' },
    seconds: { type: 'string', default: '3' },
  },
})
const SOCKETS = Number(values.sockets)
const ROUNDS = Number(values.rounds)
const SLICE_MS = Number(values.seconds) * 1000
const SOCKETS_PER_SESSION = 16
const MESSAGE = 'm'.repeat(1_024)
const HANDSHAKE_LIMIT_MS = 15_000

/** Echoes; 403 to a handshake without a token, which the tunnel's clients have in their query. */
const startEcho = async () => {
  const server = new WebSocketServer({
    port: 0,
    host: '127.0.0.1',
    perMessageDeflate: false,
    verifyClient: ({ req }: { req: IncomingMessage }) =>
      req.headers.authorization?.startsWith('Bearer ') === true || req.url === '/api/open',
  })
  await once(server, 'listening')
  server.on('connection', (socket) =>
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary })),
  )
  return { server, port: (server.address() as AddressInfo).port }
}

const open = async (url: string, headers: Record<string, string>): Promise<WebSocket> => {
  const socket = new WebSocket(url, {
    headers,
    perMessageDeflate: false,
    handshakeTimeout: HANDSHAKE_LIMIT_MS,
  })
  await once(socket, 'open')
  return socket
}

interface Way {
  readonly name: string
  readonly pid: number
  open(index: number): Promise<WebSocket>
  readonly microsPerEcho: number[]
  readonly echoesPerSecond: number[]
}

/** One message after the other on each socket, until the time is over. */
const echoAll = async (sockets: readonly WebSocket[]): Promise<number> => {
  const endsAtMs = performance.now() + SLICE_MS
  let echoes = 0
  await Promise.all(
    sockets.map(
      (socket) =>
        new Promise<void>((resolve, reject) => {
          const closed = () => reject(new Error('a socket was closed under load'))
          const echoed = () => {
            echoes += 1
            if (performance.now() < endsAtMs) return socket.send(MESSAGE)
            socket.off('message', echoed).off('close', closed)
            resolve()
          }
          socket.on('message', echoed).once('close', closed)
          socket.send(MESSAGE)
        }),
    ),
  )
  return echoes
}

const signIn = async (gateway: GatewayProcess): Promise<string> => {
  const browser = createBrowser()
  await signInAtOnce({ url: gateway.url }, browser)
  const cookie = sessionCookie(browser)
  if (cookie === undefined) throw new Error('the sign-in set no cookie')
  return `${cookie.name}=${cookie.value}`
}

const startGateway = async (echoPort: number) => {
  const provider = await FakeProvider.start({ clientId: CLIENT_ID, expiresInSeconds: 3_600 })
  const port = await freePort()
  const { COATCHECK_RESOURCE: _, ...settings } = sidecarEnvironment(port, provider, {
    url: `http://127.0.0.1:${echoPort}`,
  })
  const gateway = await startGatewayProcess(settings, { port })
  return { provider, gateway }
}

const main = async () => {
  printMachine()
  const { server, port: echoPort } = await startEcho()
  const { provider, gateway } = await startGateway(echoPort)
  const tunnelPort = await freePort()
  const tunnel = await startChild(process.execPath, [
    `${import.meta.dirname}/peers/bare-tunnel.ts`,
    String(tunnelPort),
    String(echoPort),
  ])
  const cookies: string[] = []
  while (cookies.length < Math.ceil(SOCKETS / SOCKETS_PER_SESSION))
    cookies.push(await signIn(gateway))
  const ways: readonly Way[] = [
    {
      name: 'TCP tunnel',
      pid: tunnel.pid,
      open: () => open(`ws://127.0.0.1:${tunnelPort}/api/open`, {}),
      microsPerEcho: [],
      echoesPerSecond: [],
    },
    {
      name: 'coatcheck, memory',
      pid: gateway.pid,
      open: (index) =>
        open(`ws://localhost:${gateway.port}/api/echo`, {
          Origin: gateway.url,
          Cookie: cookies[index % cookies.length] ?? '',
        }),
      microsPerEcho: [],
      echoesPerSecond: [],
    },
  ]
  keepOn(process.pid, 'load')
  for (const { pid } of ways) keepOn(pid, 'gateway')
  const sockets = new Map<Way, readonly WebSocket[]>()
  for (const way of ways)
    sockets.set(way, await Promise.all(Array.from({ length: SOCKETS }, (_, at) => way.open(at))))
  // The first round warms up.
  for (let round = 0; round <= ROUNDS; round += 1)
    for (const way of ways) {
      const before = processorMs(way.pid)
      const echoes = await echoAll(sockets.get(way) ?? [])
      const used = processorMs(way.pid) - before
      if (round === 0) continue
      way.microsPerEcho.push((used * 1000) / echoes)
      way.echoesPerSecond.push((echoes * 1000) / SLICE_MS)
    }
  for (const all of sockets.values()) for (const socket of all) socket.terminate()
  const [reference, ours] = ways as [Way, Way]
  const ratios = ours.microsPerEcho.map(
    (micros, round) => micros / (reference.microsPerEcho[round] ?? Number.NaN),
  )
  printTable(
    `An echo of 1 KiB over ${SOCKETS} WebSockets, both ways, median of ${ROUNDS} rounds`,
    ['target', 'CPU µs/echo', '× tunnel', 'echoes/s'],
    ways.map(({ name, microsPerEcho, echoesPerSecond }) => [
      name,
      rounded(medianOf(microsPerEcho)),
      name === ours.name ? rounded(medianOf(ratios), 2) : '1.00',
      rounded(medianOf(echoesPerSecond), 0),
    ]),
  )
  keepFigures(ways.map(({ name, microsPerEcho }) => ({ name, microsPerEcho })))
  await Promise.all([gateway.kill(), tunnel.kill(), provider.close()])
  for (const client of server.clients) client.terminate()
  server.close()
}

await main()
