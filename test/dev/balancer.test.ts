/** The demo's balancer: turns, the one repetition that is safe, and streams that pass both ways as they come. */

import { once } from 'node:events'
import {
  type ClientRequest,
  createServer,
  type IncomingMessage,
  type RequestListener,
  request as sendRequest,
} from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { type Passed, startBalancer } from '../../src/dev/balancer.ts'
import { freePort } from '../support/free-port.ts'
import { waitFor, within } from '../support/wait.ts'

const HOST = '127.0.0.1'
const closers: (() => unknown)[] = []

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const startReplica = async (listener: RequestListener) => {
  const server = createServer(listener)
  server.listen(0, HOST)
  await once(server, 'listening')
  closers.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return { server, port: (server.address() as AddressInfo).port }
}

const answering = (words: string): RequestListener => {
  return async (req, res) => {
    res.end(`${words} ${await textOf(req)}`)
  }
}

const textOf = async (message: IncomingMessage): Promise<string> => {
  let text = ''
  message.setEncoding('utf8')
  for await (const chunk of message) text += chunk
  return text
}

const startInFrontOf = async (replicaPorts: readonly number[]) => {
  const told: Passed[] = []
  const balancer = await startBalancer({
    host: HOST,
    port: 0,
    replicaPorts,
    own: { prefix: '/own/', listener: (_req, res) => res.end('own') },
    unanswered: (why, _req, res) => res.writeHead(why === 'cut_off' ? 502 : 503).end(why),
    passed: (passed) => told.push(passed),
  })
  closers.push(balancer.close)
  return { port: balancer.port, told }
}

const send = (port: number, method: string, path = '/api/items'): ClientRequest =>
  sendRequest({ host: HOST, port, method, path, agent: false })

const responseTo = async (request: ClientRequest): Promise<IncomingMessage> => {
  const [response] = await within(5_000, 'an answer', once(request, 'response'))
  return response as IncomingMessage
}

const ask = async (port: number, method = 'GET', body?: string, path?: string) => {
  const request = send(port, method, path)
  request.end(body)
  const response = await responseTo(request)
  return {
    status: response.statusCode,
    replica: response.headers['x-demo-replica'],
    text: await textOf(response),
  }
}

test('the replicas take turns, and the turn of one that is down is the next one’s, body and all', async () => {
  const one = await startReplica(answering('one'))
  const two = await startReplica(answering('two'))
  const { port, told } = await startInFrontOf([one.port, await freePort(), two.port])
  const answers = []
  for (const body of ['a', 'b', 'c']) answers.push(await ask(port, 'POST', body))
  expect(answers).toEqual([
    { status: 200, replica: '1', text: 'one a' },
    { status: 200, replica: '3', text: 'two b' },
    { status: 200, replica: '3', text: 'two c' },
  ])
  expect(told.map(({ replica, status }) => [replica, status])).toEqual([
    [1, 200],
    [3, 200],
    [3, 200],
  ])
})

test('its own paths reach no replica, and count for none', async () => {
  const one = await startReplica(answering('one'))
  const { port, told } = await startInFrontOf([one.port])
  expect((await ask(port, 'GET', undefined, '/own/state')).text).toBe('own')
  expect(told).toEqual([])
})

test('where no replica listens the answer is told as nobody’s', async () => {
  const { port, told } = await startInFrontOf([await freePort(), await freePort()])
  expect(await ask(port)).toMatchObject({ status: 503, text: 'nobody_there' })
  expect(told.map(({ replica, status }) => [replica, status])).toEqual([[undefined, 503]])
})

test('a request that a replica had begun on is not repeated when it dies', async () => {
  let begun = 0
  const dying: RequestListener = (req) => {
    begun += 1
    req.on('data', () => req.socket.resetAndDestroy())
  }
  const one = await startReplica(dying)
  const two = await startReplica(dying)
  const { port, told } = await startInFrontOf([one.port, two.port])
  expect(await ask(port, 'POST', 'pay')).toMatchObject({ status: 502, replica: '1' })
  expect(begun).toBe(1)
  expect(told.map(({ status }) => status)).toEqual([502])
})

test('an answer that breaks off is broken off for the client too', async () => {
  const one = await startReplica((_req, res) => {
    res.write('the beginning')
    setImmediate(() => res.destroy())
  })
  const { port } = await startInFrontOf([one.port])
  const response = await responseTo(send(port, 'GET').end())
  await expect(textOf(response)).rejects.toThrow('aborted')
})

test('bodies pass both ways as they come, not when they are whole', async () => {
  const one = await startReplica((req, res) => req.pipe(res))
  const { port } = await startInFrontOf([one.port])
  const request = send(port, 'POST')
  request.write('first')
  const response = await responseTo(request)
  response.setEncoding('utf8')
  expect(await within(5_000, 'the first part', once(response, 'data'))).toEqual(['first'])
  request.end('last')
  expect(await within(5_000, 'the last part', once(response, 'data'))).toEqual(['last'])
})

test('a head does not wait for its body, and a replica hears that the client has left', async () => {
  let left = false
  const one = await startReplica((_req, res) => {
    res.on('close', () => {
      left = true
    })
    res.flushHeaders()
  })
  const { port } = await startInFrontOf([one.port])
  const request = send(port, 'GET').end()
  request.on('error', () => undefined)
  await responseTo(request)
  request.destroy()
  await waitFor('the replica hears of it', () => left)
})

test('fields of one connection stay on it, all others pass as they came', async () => {
  const one = await startReplica((req, res) => {
    res.writeHead(200, ['Set-Cookie', 'a=1', 'set-cookie', 'b=2', 'Keep-Alive', 'timeout=9'])
    res.end(JSON.stringify(req.rawHeaders))
  })
  const { port } = await startInFrontOf([one.port])
  const request = sendRequest({
    host: HOST,
    port,
    agent: false,
    headers: ['Host', 'localhost:3000', 'Connection', 'X-Mine', 'X-Mine', '1', 'cOOkie', 'x=y'],
  }).end()
  const response = await responseTo(request)
  const seen = JSON.parse(await textOf(response)) as string[]
  expect(seen).toEqual(['Host', 'localhost:3000', 'cOOkie', 'x=y', 'Connection', 'close'])
  expect(response.headers['set-cookie']).toEqual(['a=1', 'b=2'])
  expect(response.headers['keep-alive']).not.toBe('timeout=9')
})

test('a WebSocket handshake passes, and what follows it, both ways', async () => {
  const one = await startReplica(() => undefined)
  one.server.on('upgrade', (_req, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n')
    socket.pipe(socket)
  })
  const { port } = await startInFrontOf([await freePort(), one.port])
  const socket = connect(port, HOST)
  closers.push(() => socket.destroy())
  let received = ''
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    received += chunk
  })
  socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  await waitFor('the handshake', () => received.startsWith('HTTP/1.1 101'))
  socket.write('echo')
  await waitFor('the echo', () => received.endsWith('echo'))
})
