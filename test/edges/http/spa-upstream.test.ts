import { once } from 'node:events'
import { afterEach, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { createSpaUpstream } from '../../../src/edges/http/spa-upstream.ts'
import { createUpstreamDispatch } from '../../../src/edges/upstream/dispatcher.ts'
import { createUpstreamTls } from '../../../src/edges/upstream/tls.ts'
import { createShakeHands } from '../../../src/edges/upstream/upgrade.ts'
import type { OpenSockets } from '../../../src/upstream/open-sockets.ts'
import { freePort } from '../../support/free-port.ts'
import {
  startUpstreamApi,
  type UpstreamAnswer,
  type UpstreamApi,
} from '../../support/upstream-api.ts'
import { waitFor, within } from '../../support/wait.ts'
import { rawExchange, startRawUpstream } from '../upstream/raw-sockets.ts'
import { ask, type SpaRig, startSpaRig } from './spa-rig.ts'

const PUBLIC_URL = 'https://app.example.com'
const OWN_COOKIE = '__Host-Http-coatcheck'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const UNLIMITED: OpenSockets = {
  take: () => ({
    sessionEnd: () => undefined,
    open: (join) => void join({ fromClient() {}, fromUpstream() {}, ended() {} }),
    leave: () => {},
  }),
  goAway: () => {},
}

const startRig = async (origin: string): Promise<SpaRig> => {
  const dispatch = createUpstreamDispatch()
  const rig = await startSpaRig(
    createSpaUpstream({
      origin,
      headerSettings: {
        publicUrl: PUBLIC_URL,
        instanceId: 'instance-1',
      },
      dispatch,
      shakeHands: createShakeHands(createUpstreamTls()),
      sockets: UNLIMITED,
    }),
  )
  closers.push(async () => {
    await rig.close()
    await dispatch.close()
    expect(rig.faults).toEqual([])
  })
  return rig
}

const start = async (answer?: UpstreamAnswer): Promise<{ app: UpstreamApi; rig: SpaRig }> => {
  const app = await startUpstreamApi(answer === undefined ? {} : { answer })
  closers.push(() => app.close())
  return { app, rig: await startRig(app.url) }
}

describe('requests to the app’s server', () => {
  it('come with its own Host, the path as it was sent, and no credential of ours', async () => {
    const { app, rig } = await start()
    await ask(`${rig.url}/src/main.ts?t=1%2F2`, {
      headers: {
        cookie: `theme=dark; ${OWN_COOKIE}=ticket; ${OWN_COOKIE}-3000=ticket; ${OWN_COOKIE}-login-a=x; lang=de`,
        authorization: 'Bearer x',
        'x-forwarded-user': 'admin',
        'x-real-ip': '1.2.3.4',
      },
    })
    const request = await app.request(0)
    expect(request.url).toBe('/src/main.ts?t=1%2F2')
    expect(request.header('host')).toBe(new URL(app.url).host)
    expect(request.header('cookie')).toBe('theme=dark; lang=de')
    for (const name of ['authorization', 'x-forwarded-user', 'x-real-ip']) {
      expect(request.header(name)).toBeUndefined()
    }
    expect(request.header('x-forwarded-host')).toBe('app.example.com')
    expect(request.header('x-forwarded-proto')).toBe('https')
    expect(request.header('x-request-id')).toBe('request-1')
  })

  it('a spelling of our cookie in another case is ours too', async () => {
    const { app, rig } = await start()
    await ask(rig.url, { headers: { cookie: `${OWN_COOKIE.toLowerCase()}=ticket` } })
    expect((await app.request(0)).header('cookie')).toBeUndefined()
  })

  it('bodies stream up', async () => {
    const { app, rig } = await start()
    await fetch(`${rig.url}/save`, { method: 'POST', body: 'x'.repeat(100_000) })
    expect((await (await app.request(0)).wholeBody).length).toBe(100_000)
  })

  it('RFC 9110 §7.6.3 one that this process has forwarded before is refused', async () => {
    const { app, rig } = await start()
    const before = await startRig(rig.url)
    const { status, text } = await ask(before.url)
    expect([status, (JSON.parse(text) as { code: string }).code]).toEqual([
      502,
      'upstream_unreachable',
    ])
    expect(app.requests).toHaveLength(0)
  })

  it('a server that is not there is 502', async () => {
    const rig = await startRig(`http://127.0.0.1:${await freePort()}`)
    const { status, text } = await ask(`${rig.url}/`)
    expect(status).toBe(502)
    expect(JSON.parse(text)).toMatchObject({ code: 'upstream_unreachable' })
  })
})

describe('its answers', () => {
  const answerWith =
    (status: number, headers: string[], body = ''): UpstreamAnswer =>
    (_request, response) => {
      response.writeHead(status, headers)
      response.end(body)
    }

  it('pass with their own policies, caching and types, and none is added', async () => {
    const { rig } = await start(
      answerWith(
        200,
        [
          ...['content-type', 'text/html'],
          ...['content-security-policy', "default-src 'self' 'unsafe-inline'"],
          ...['cache-control', 'max-age=5'],
          ...['etag', '"1"'],
          ...['service-worker-allowed', '/'],
          ...['set-cookie', 'theme=dark'],
          ...['set-cookie', 'lang=de; Path=/'],
        ],
        '<p>app',
      ),
    )
    const { status, headers, text } = await ask(rig.url)
    expect([status, text]).toEqual([200, '<p>app'])
    expect(headers).toEqual({
      'content-type': 'text/html',
      'content-security-policy': "default-src 'self' 'unsafe-inline'",
      'cache-control': 'max-age=5',
      etag: '"1"',
      'service-worker-allowed': '/',
      'set-cookie': ['theme=dark', 'lang=de; Path=/'],
      'x-request-id': 'request-1',
      'transfer-encoding': 'chunked',
      connection: 'close',
    })
  })

  it('lose what is of its connection, what names it, and cookies named like ours', async () => {
    const { rig } = await start(
      answerWith(200, [
        ...['connection', 'x-hop'],
        ...['x-hop', '1'],
        ...['server', 'nginx'],
        ...['x-powered-by', 'Express'],
        ...['alt-svc', 'h2="internal:443"'],
        ...['set-cookie', `${OWN_COOKIE}=forged; Path=/; Secure; HttpOnly`],
        ...['set-cookie', ` ${OWN_COOKIE.toUpperCase()}-login-a=forged`],
        ...['set-cookie', 'mine=1'],
      ]),
    )
    const { headers } = await ask(rig.url)
    expect(headers['set-cookie']).toEqual(['mine=1'])
    for (const name of ['x-hop', 'server', 'x-powered-by', 'alt-svc']) {
      expect(headers[name]).toBeUndefined()
    }
  })

  it('a redirect is passed back, and its internal name becomes the public one', async () => {
    const { app, rig } = await start()
    const internal = new URL(app.url).host
    const redirectTo = async (location: string) => {
      app.answerWith(answerWith(302, ['location', location]))
      const { status, headers } = await ask(rig.url)
      expect(status).toBe(302)
      return headers.location
    }
    expect(await redirectTo(`http://${internal}/a?b#c`)).toBe(`${PUBLIC_URL}/a?b#c`)
    expect(await redirectTo(`//${internal}/a`)).toBe(`${PUBLIC_URL}/a`)
    expect(await redirectTo(`https://${internal}/a`)).toBe(`${PUBLIC_URL}/a`)
    expect(await redirectTo('/a/')).toBe('/a/')
    expect(await redirectTo('https://elsewhere.example/a')).toBe('https://elsewhere.example/a')
    expect(app.requests).toHaveLength(5)
  })

  it('an event stream comes as it is written', async () => {
    let end = () => {}
    const { rig } = await start((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('data: 1\n\n')
      end = () => response.end()
    })
    const response = await fetch(`${rig.url}/__hmr`)
    const reader = response.body?.getReader()
    const { value } = (await within(
      2_000,
      'the first event',
      reader?.read() ?? Promise.reject(),
    )) as {
      value: Uint8Array
    }
    expect(Buffer.from(value).toString()).toBe('data: 1\n\n')
    end()
  })
})

const handshake = (headers: string) =>
  `GET /hmr?token=x HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${headers}\r\n`

describe('WebSocket handshakes (hot reload)', () => {
  const startAgreeing = async () => {
    const upstream = await startRawUpstream(async ({ socket, receives }) => {
      await receives('\r\n\r\n')
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: vite-hmr\r\n\r\n',
      )
      socket.end('frames')
    })
    closers.push(() => upstream.close())
    return { upstream, rig: await startRig(upstream.url) }
  }

  it.each([
    ['another site’s', 'Origin: https://evil.example\r\n'],
    ['a sibling’s', 'Origin: https://other.example.com\r\n'],
    ['the same name’s over http', 'Origin: http://app.example.com\r\n'],
    ['the same name’s on another port', 'Origin: https://app.example.com:8443\r\n'],
    ['a longer name’s', 'Origin: https://app.example.com.evil.example\r\n'],
    ['null', 'Origin: null\r\n'],
    ['an empty', 'Origin:\r\n'],
    ['no', ''],
    ['two', `Origin: ${PUBLIC_URL}\r\nOrigin: https://evil.example\r\n`],
    ['a list of', `Origin: ${PUBLIC_URL}, https://evil.example\r\n`],
    ['no, but the header for code', 'X-CSRF: 1\r\n'],
  ])('RFC 6455 §10.2 %s Origin is refused before anybody is called', async (_, headers) => {
    const { upstream, rig } = await startAgreeing()
    const answer = await rawExchange(rig.port, handshake(headers))
    expect(answer).toMatch(/^HTTP\/1\.1 403 /)
    expect(answer).toContain('"code":"csrf_rejected"')
    expect(upstream.connections).toHaveLength(0)
  })

  it('our own Origin gets through, without our cookies and credentials', async () => {
    const { upstream, rig } = await startAgreeing()
    const answer = await rawExchange(
      rig.port,
      handshake(
        `Origin: ${PUBLIC_URL}\r\nSec-WebSocket-Protocol: vite-hmr\r\nCookie: a=1; ${OWN_COOKIE}=ticket\r\nAuthorization: Bearer x\r\nSec-WebSocket-Extensions: permessage-deflate\r\n`,
      ),
    )
    expect(answer).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n/)
    expect(answer).toMatch(/\r\nsec-websocket-protocol: vite-hmr\r\n/i)
    expect(answer.match(/\r\nupgrade: /gi)).toHaveLength(1)
    expect(answer).toMatch(/\r\n\r\nframes$/)
    const received = upstream.connections[0]?.received() ?? ''
    expect(received).toMatch(/^GET \/hmr\?token=x HTTP\/1\.1\r\n/)
    expect(received).toContain(`\r\nhost: ${new URL(upstream.url).host}\r\n`)
    expect(received).toMatch(/\r\ncookie: a=1\r\n/i)
    expect(received).toMatch(/\r\norigin: https:\/\/app\.example\.com\r\n/i)
    expect(received).toMatch(/\r\nsec-websocket-extensions: permessage-deflate\r\n/i)
    expect(received.match(/\r\nconnection: /gi)).toHaveLength(1)
    expect(received).not.toMatch(/ticket|authorization/i)
  })

  it('a server that is not there is 502 on the socket', async () => {
    const rig = await startRig(`http://127.0.0.1:${await freePort()}`)
    const answer = await rawExchange(rig.port, handshake(`Origin: ${PUBLIC_URL}\r\n`))
    expect(answer).toMatch(/^HTTP\/1\.1 502 /)
    expect(answer).toContain('"code":"upstream_unreachable"')
  })

  it('a server without WebSockets refuses in its own words', async () => {
    const { app, rig } = await start((_request, response) => {
      response.writeHead(404, { 'content-type': 'text/plain', server: 'nginx' })
      response.end('no sockets here')
    })
    const answer = await rawExchange(rig.port, handshake(`Origin: ${PUBLIC_URL}\r\n`))
    expect(answer).toMatch(/^HTTP\/1\.1 404 Not Found\r\n[\s\S]*no sockets here$/)
    expect(answer).not.toMatch(/nginx/)
    expect(app.requests).toHaveLength(1)
  })

  it('a real client opens, talks and closes', async () => {
    const { WebSocketServer } = await import('ws')
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
    await once(server, 'listening')
    closers.push(() => server.close())
    server.on('connection', (webSocket) => webSocket.on('message', (text) => webSocket.send(text)))
    const { port } = server.address() as { port: number }
    const rig = await startRig(`http://127.0.0.1:${port}`)
    const client = new WebSocket(`ws://127.0.0.1:${rig.port}/hmr`, { origin: PUBLIC_URL })
    await within(3_000, 'the WebSocket opens', once(client, 'open'))
    client.send('ping')
    const [message] = await within(3_000, 'the echo', once(client, 'message'))
    expect(String(message)).toBe('ping')
    client.close(1000)
    await waitFor('the upstream sees the end', () => server.clients.size === 0)
  })
})
