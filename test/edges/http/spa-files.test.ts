import {
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSpaFiles } from '../../../src/edges/http/spa-files.ts'
import { tableRows } from '../../architecture/markdown.ts'
import { waitFor, within } from '../../support/wait.ts'
import { rawClient, rawExchange } from '../upstream/raw-sockets.ts'
import { ask, type BuildDirectory, buildDirectory, type SpaRig, startSpaRig } from './spa-rig.ts'

const INDEX = '<!doctype html><title>app</title>'
const SCRIPT = 'console.log("app")'.repeat(100)
const SECRET = 'the operator’s secret'

let build: BuildDirectory
const rigs: SpaRig[] = []

beforeEach(async () => {
  build = await buildDirectory({
    'index.html': INDEX,
    'assets/index-Df0q1mio.js': SCRIPT,
    'assets/index-Df0q1mio.js.br': brotliCompressSync(SCRIPT),
    'assets/index-Df0q1mio.js.gz': gzipSync(SCRIPT),
    'assets/with space é.svg': '<svg/>',
    'favicon.ico': Buffer.from([0, 1, 2, 255]),
    'empty.txt': '',
    'ten.txt': '0123456789',
    'guide/index.html': 'the guide',
    '.env': SECRET,
    '.git/config': SECRET,
    'assets/.hidden.js': SECRET,
    '.well-known/security.txt': 'Contact: x',
    '../secret.txt': SECRET,
    '../build-other/secret.txt': SECRET,
  })
})
afterEach(async () => {
  for (const rig of rigs.splice(0)) {
    await rig.close()
    expect(rig.faults).toEqual([])
  }
  await build.remove()
})

const start = async (csp = 'default', publicUrl = 'https://app.example.com'): Promise<SpaRig> => {
  const rig = await startSpaRig(createSpaFiles({ directory: build.path, csp, publicUrl }))
  rigs.push(rig)
  return rig
}

const NAVIGATION = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document' }
const raw = (target: string, headers = '') =>
  `GET ${target} HTTP/1.1\r\nHost: a\r\n${headers}Connection: close\r\n\r\n`
const AS_NAVIGATION = 'Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n'
const statusOf = (answer: string) => Number(answer.slice(9, 12))

describe('nothing outside the directory', () => {
  const TRAVERSALS = [
    '/../secret.txt',
    '/../build-other/secret.txt',
    '/assets/../../secret.txt',
    '/..%2fsecret.txt',
    '/..%2Fsecret.txt',
    '/%2e%2e/secret.txt',
    '/%2E%2E%2Fsecret.txt',
    '/.%2e/secret.txt',
    '/%252e%252e/secret.txt',
    '/%252e%252e%252fsecret.txt',
    '/..%5csecret.txt',
    '/..\\secret.txt',
    '/..;/secret.txt',
    '/assets/..%2f..%2fsecret.txt',
    '/assets%2f..%2f..%2fsecret.txt',
    '/..%c0%afsecret.txt',
    '/%c0%ae%c0%ae/secret.txt',
    '//secret.txt',
    '/assets/%00/../../secret.txt',
    '/secret.txt%00.js',
    '/secret.txt',
    '/build-other/secret.txt',
    'http://evil/../secret.txt',
    '/.env',
    '/%2eenv',
    '/.git/config',
    '/assets/.hidden.js',
    '/link.txt',
    '/linked/secret.txt',
    '/link-to-root/etc/passwd',
    '/other/secret.txt',
    '/other%2fsecret.txt',
  ]

  it.each(TRAVERSALS)('%s gives no file, neither to code nor to a navigation', async (target) => {
    await build.link('link.txt', '../secret.txt')
    await build.link('linked', '..')
    await build.link('link-to-root', '/')
    // A neighbour whose name only begins like the directory's.
    await build.link('other', '../build-other')
    const { port } = await start()
    for (const headers of ['', AS_NAVIGATION]) {
      const answer = await rawExchange(port, raw(target, headers))
      expect(answer).not.toContain(SECRET)
      expect(answer).not.toContain('root:')
      // What is no file's name may be a client route, which a page load gets the index for.
      if (headers === '' || !answer.endsWith(INDEX)) expect([400, 404]).toContain(statusOf(answer))
    }
  })

  it('a file that is replaced by a link after the start is not followed', async () => {
    const { port } = await start()
    await rm(join(build.path, 'ten.txt'))
    await symlink('../secret.txt', join(build.path, 'ten.txt'))
    const answer = await rawExchange(port, raw('/ten.txt'))
    expect(answer).not.toContain(SECRET)
    expect(statusOf(answer)).toBe(404)
  })

  it('an encoded slash is no way to a file, though its name would be right', async () => {
    const { url } = await start()
    expect((await fetch(`${url}/guide%2Findex.html`)).status).toBe(404)
    expect((await fetch(`${url}/guide/index.html`)).status).toBe(200)
  })

  it('links inside the directory are served, as mounted volumes need it', async () => {
    await build.write('..data-2026/app.js', 'mounted')
    await build.link('app.js', '..data-2026/app.js')
    await build.link('alias', 'assets')
    const { url } = await start()
    expect(await (await fetch(`${url}/app.js`)).text()).toBe('mounted')
    expect((await fetch(`${url}/alias/index-Df0q1mio.js`)).status).toBe(200)
    expect((await fetch(`${url}/..data-2026/app.js`)).status).toBe(404)
  })

  it('a circle of links ends', async () => {
    await build.link('a/to-b', '../b')
    await build.link('b/to-a', '../a')
    await build.link('self', '.')
    const { url } = await start()
    expect((await fetch(`${url}/ten.txt`)).status).toBe(200)
  })

  it('RFC 8615 /.well-known is the one directory with a dot', async () => {
    const { url } = await start()
    expect(await (await fetch(`${url}/.well-known/security.txt`)).text()).toBe('Contact: x')
  })

  it('other methods get 405 where a file is, and 404 where none is', async () => {
    const { url } = await start()
    const onFile = await fetch(`${url}/ten.txt`, { method: 'POST', body: 'x' })
    expect([onFile.status, onFile.headers.get('allow')]).toEqual([405, 'GET, HEAD'])
    expect((await fetch(`${url}/nothing`, { method: 'DELETE' })).status).toBe(404)
  })

  it('a WebSocket handshake is refused', async () => {
    const { port } = await start()
    const answer = await rawExchange(
      port,
      'GET /ten.txt HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    )
    expect(statusOf(answer)).toBe(404)
  })
})

describe('which file', () => {
  it.each([
    ['/', INDEX],
    ['/index.html', INDEX],
    ['/guide/', 'the guide'],
    ['/ten.txt', '0123456789'],
    ['/%74en.txt', '0123456789'],
    ['/ten.txt?v=1', '0123456789'],
    ['/assets/with%20space%20%C3%A9.svg', '<svg/>'],
    ['/empty.txt', ''],
  ])('%s is that file', async (path, content) => {
    const { url } = await start()
    const response = await fetch(url + path)
    expect(response.status).toBe(200)
    expect(await response.text()).toBe(content)
  })

  it('bytes come as they are, with their length and type', async () => {
    const { url } = await start()
    const response = await fetch(`${url}/favicon.ico`)
    expect(response.headers.get('content-type')).toBe('image/vnd.microsoft.icon')
    expect(response.headers.get('content-length')).toBe('4')
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(new Uint8Array([0, 1, 2, 255]))
  })

  it.each(['/items', '/items/42', '/users/jane.doe', '/releases/v1.2', '/caf%C3%A9', '/caf%E9'])(
    'a page load of the client route %s gets the index',
    async (path) => {
      const { url } = await start()
      const { status, text, headers } = await ask(url + path, { headers: NAVIGATION })
      expect([status, text]).toEqual([200, INDEX])
      expect(headers['cache-control']).toBe('no-cache')
      expect(headers['content-type']).toBe('text/html; charset=utf-8')
    },
  )

  it.each([
    ['fetch from the app', { 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' }],
    ['a script', { 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'script' }],
    ['a frame', { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'iframe' }],
    ['a prefetch', { ...NAVIGATION, 'sec-purpose': 'prefetch' }],
    ['a tool', {}],
  ])('%s does not get the index in place of what is missing', async (_, headers) => {
    const { url } = await start()
    const { status, text } = await ask(`${url}/items`, { headers })
    expect(status).toBe(404)
    expect(JSON.parse(text)).toMatchObject({ code: 'route_not_found' })
  })

  it.each(['/assets/index-old00000.js', '/missing.png', '/page.html', '/.well-known/x'])(
    'a page load of the missing file %s is 404, not the index',
    async (path) => {
      const { url } = await start()
      expect((await ask(url + path, { headers: NAVIGATION })).status).toBe(404)
    },
  )

  it('POST to a client route gets no index', async () => {
    const { url } = await start()
    const { status } = await ask(`${url}/items`, { method: 'POST', headers: NAVIGATION })
    expect(status).toBe(405)
  })
})

describe('caching', () => {
  it('hashed assets are immutable, everything else is revalidated', async () => {
    const { url } = await start()
    const policyOf = async (path: string) => (await fetch(url + path)).headers.get('cache-control')
    expect(await policyOf('/assets/index-Df0q1mio.js')).toBe('public, max-age=31536000, immutable')
    for (const path of ['/', '/index.html', '/favicon.ico', '/ten.txt', '/guide/']) {
      expect(await policyOf(path)).toBe('no-cache')
    }
  })

  it('RFC 9110 §13.1.2 a current copy gets 304 with the headers that update it', async () => {
    const { url } = await start()
    const first = await fetch(`${url}/`)
    const etag = first.headers.get('etag') ?? ''
    expect(etag).toMatch(/^"[^"]{8,}"$/)
    const again = await fetch(`${url}/`, { headers: { 'if-none-match': `"x", W/${etag}` } })
    expect([again.status, await again.text()]).toEqual([304, ''])
    expect(again.headers.get('etag')).toBe(etag)
    expect(again.headers.get('cache-control')).toBe('no-cache')
    expect(again.headers.get('content-security-policy')).not.toBeNull()
    expect(again.headers.get('content-type')).toBeNull()
    const changed = await fetch(`${url}/`, { headers: { 'if-none-match': '"x"' } })
    expect(changed.status).toBe(200)
  })

  it('RFC 9110 §13.1.3 a date revalidates as well', async () => {
    const { url } = await start()
    const modified = (await fetch(`${url}/ten.txt`)).headers.get('last-modified') ?? ''
    const since = (date: string) =>
      fetch(`${url}/ten.txt`, { headers: { 'if-modified-since': date } })
    expect((await since(modified)).status).toBe(304)
    expect((await since('Thu, 01 Jan 1970 00:00:00 GMT')).status).toBe(200)
  })

  it('two builds whose files have one date and one size have two entity tags', async () => {
    const { url } = await start()
    const file = join(build.path, 'index.html')
    const buildDate = new Date('1980-01-01T00:00:00Z')
    const tagOf = async () => (await fetch(`${url}/`)).headers.get('etag')
    await utimes(file, buildDate, buildDate)
    const before = await tagOf()
    await writeFile(file, INDEX.replace('app', 'APP'))
    await utimes(file, buildDate, buildDate)
    expect(await tagOf()).not.toBe(before)
    await writeFile(file, INDEX)
    await utimes(file, buildDate, buildDate)
    expect(await tagOf()).toBe(before)
  })

  it('a large file has an entity tag without being read for it', async () => {
    await build.write('film.mp4', Buffer.alloc(3 * 1024 * 1024, 'x'))
    const { url } = await start()
    const first = await fetch(`${url}/film.mp4`, { method: 'HEAD' })
    const headers = { 'if-none-match': first.headers.get('etag') ?? '' }
    expect((await fetch(`${url}/film.mp4`, { headers })).status).toBe(304)
  })
})

describe('precompressed siblings', () => {
  const ASSET = '/assets/index-Df0q1mio.js'

  it.each([
    ['br', 'br'],
    ['gzip, deflate, br', 'br'],
    ['gzip', 'gzip'],
    ['br;q=0.2, gzip;q=0.8', 'gzip'],
    ['identity', null],
  ])('RFC 9110 §12.5.3 Accept-Encoding: %s → %s', async (accept, encoding) => {
    const { url } = await start()
    const response = await fetch(url + ASSET, { headers: { 'accept-encoding': accept } })
    expect(response.headers.get('content-encoding')).toBe(encoding)
    expect(response.headers.get('vary')).toBe('accept-encoding')
    expect(response.headers.get('content-type')).toBe('text/javascript; charset=utf-8')
    expect(response.headers.get('cache-control')).toContain('immutable')
    expect(await response.text()).toBe(SCRIPT)
  })

  it('each representation has an entity tag of its own', async () => {
    const { url } = await start()
    const tags = await Promise.all(
      ['br', 'gzip', 'identity'].map(async (accept) => {
        const response = await fetch(url + ASSET, { headers: { 'accept-encoding': accept } })
        return response.headers.get('etag')
      }),
    )
    expect(new Set(tags).size).toBe(3)
  })

  it('a file without siblings does not vary', async () => {
    const { url } = await start()
    const response = await fetch(`${url}/ten.txt`, { headers: { 'accept-encoding': 'br' } })
    expect([response.headers.get('content-encoding'), response.headers.get('vary')]).toEqual([
      null,
      null,
    ])
  })
})

describe('ranges', () => {
  it('RFC 9110 §14.2 a part has its place and length', async () => {
    const { url } = await start()
    const response = await fetch(`${url}/ten.txt`, { headers: { range: 'bytes=2-5' } })
    expect([response.status, await response.text()]).toEqual([206, '2345'])
    expect(response.headers.get('content-range')).toBe('bytes 2-5/10')
    expect(response.headers.get('content-length')).toBe('4')
  })

  it('RFC 9110 §15.5.17 a range beyond the end gets 416 with the size', async () => {
    const { url } = await start()
    const response = await fetch(`${url}/ten.txt`, { headers: { range: 'bytes=10-' } })
    expect([response.status, response.headers.get('content-range')]).toEqual([416, 'bytes */10'])
  })

  it('several ranges get the whole', async () => {
    const { url } = await start()
    const response = await fetch(`${url}/ten.txt`, { headers: { range: 'bytes=0-1,3-4' } })
    expect([response.status, await response.text()]).toEqual([200, '0123456789'])
  })

  it('a range is of the file, never of its compressed form', async () => {
    const { url } = await start()
    const response = await fetch(`${url}/assets/index-Df0q1mio.js`, {
      headers: { range: 'bytes=0-6', 'accept-encoding': 'br' },
    })
    expect([response.status, await response.text()]).toEqual([206, SCRIPT.slice(0, 7)])
    expect(response.headers.get('content-encoding')).toBeNull()
  })
})

describe('HEAD', () => {
  it.each(['/', '/ten.txt', '/assets/index-Df0q1mio.js'])(
    '%s has the headers of GET',
    async (path) => {
      const { url } = await start()
      const get = await ask(url + path)
      const head = await ask(url + path, { method: 'HEAD' })
      expect(head).toEqual({ ...get, text: '' })
      expect(get.headers['content-length']).toBe(String(get.text.length))
    },
  )

  it('RFC 9110 §14.2 a range means nothing', async () => {
    const { url } = await start()
    const response = await fetch(`${url}/ten.txt`, {
      method: 'HEAD',
      headers: { range: 'bytes=0-1' },
    })
    expect(response.status).toBe(200)
  })
})

describe('security headers', () => {
  const policyOf = async (csp: string, publicUrl?: string) => {
    const { url } = await start(csp, publicUrl)
    return (await fetch(`${url}/`)).headers
  }

  it('the default breaks no ordinary build', async () => {
    const headers = await policyOf('default')
    expect(headers.get('content-security-policy')).toBe(
      "frame-ancestors 'none'; object-src 'none'; base-uri 'self'",
    )
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    expect(headers.get('referrer-policy')).toBe('strict-origin-when-cross-origin')
    expect(headers.get('cross-origin-opener-policy')).toBe('same-origin-allow-popups')
  })

  it('`strict` lets in what is of the same origin alone', async () => {
    expect((await policyOf('strict')).get('content-security-policy')).toBe(
      "default-src 'self'; frame-ancestors 'none'; object-src 'none'; base-uri 'self'",
    )
  })

  it('docs/spa-files.md shows what is sent, word for word', async () => {
    const page = await readFile(new URL('../../../docs/spa-files.md', import.meta.url), 'utf8')
    const documented = new Map(
      tableRows(page, 'spa.csp').map(([name = '', policy]) => [name, policy]),
    )
    for (const setting of ['default', 'strict']) {
      const sent = (await policyOf(setting)).get('content-security-policy')
      expect(documented.get(setting)).toBe(sent)
    }
  })

  it('a policy of one’s own is sent as it is', async () => {
    const own = "default-src 'none'; script-src 'self' https://cdn.example"
    expect((await policyOf(own)).get('content-security-policy')).toBe(own)
  })

  it('RFC 6797 §7.2 HSTS is sent for an https public URL only', async () => {
    const secure = await policyOf('default', 'https://app.example.com')
    expect(secure.get('strict-transport-security')).toBe('max-age=31536000; includeSubDomains')
    const loopback = await policyOf('default', 'http://localhost:3000')
    expect(loopback.get('strict-transport-security')).toBeNull()
  })
})

/** Descriptors of this process that are open on a file of that name. */
const openCount = async (name: string): Promise<number> => {
  const descriptors = await readdir('/proc/self/fd')
  const links = await Promise.all(
    descriptors.map((descriptor) => readlink(`/proc/self/fd/${descriptor}`).catch(() => '')),
  )
  return links.filter((path) => path.endsWith(`/${name}`)).length
}

describe('a build that changes under way', () => {
  it('a new file is found without a restart', async () => {
    const { url } = await start()
    expect((await fetch(`${url}/new.js`)).status).toBe(404)
    await build.write('new.js', 'new')
    expect(await (await fetch(`${url}/new.js`)).text()).toBe('new')
  })

  it('a directory that is replaced whole is followed', async () => {
    const { url } = await start()
    const next = await buildDirectory({ 'index.html': 'second', 'only-new.txt': 'new' })
    await rename(build.path, `${build.path}-old`)
    expect((await fetch(`${url}/ten.txt`)).status).toBe(404)
    await rename(next.path, build.path)
    expect(await (await fetch(`${url}/only-new.txt`)).text()).toBe('new')
    expect(await (await fetch(`${url}/`)).text()).toBe('second')
    expect((await fetch(`${url}/ten.txt`)).status).toBe(404)
    await next.remove()
  })

  it('misses in a row wait for their turn to scan', async () => {
    const { url } = await start()
    const startedMs = performance.now()
    for (const name of ['a', 'b', 'c']) await fetch(`${url}/missing-${name}.js`)
    expect(performance.now() - startedMs).toBeGreaterThan(450)
  })

  it('a flood of misses shares one scan', async () => {
    const { url } = await start()
    const startedMs = performance.now()
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, index) => fetch(`${url}/missing-${index}.js`)),
    )
    expect(answers.every(({ status }) => status === 404)).toBe(true)
    expect(performance.now() - startedMs).toBeLessThan(5_000)
  })

  it('a file that shrinks while it is sent ends visibly short', async () => {
    await build.write('large.bin', Buffer.alloc(64 * 1024 * 1024, 'x'))
    const { port } = await start()
    // Kept alive: an answer that was ended in order would leave the client waiting for the rest.
    const client = await rawClient(port, 'GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n')
    client.socket.pause()
    await sleep(200)
    await truncate(join(build.path, 'large.bin'), 0)
    client.socket.resume()
    await within(5_000, 'the connection is cut', client.closed)
    const head = client.received().slice(0, 2_000)
    expect(head).toContain('content-length: 67108864\r\n')
    expect(client.received().length).toBeLessThan(64 * 1024 * 1024)
  })

  it('no answer leaves its file open', async () => {
    const { url } = await start()
    const etag = (await ask(`${url}/ten.txt`)).headers.etag as string
    await ask(`${url}/ten.txt`, { method: 'HEAD' })
    await ask(`${url}/ten.txt`, { headers: { 'if-none-match': etag } })
    await ask(`${url}/ten.txt`, { headers: { range: 'bytes=0-1' } })
    await ask(`${url}/ten.txt`, { headers: { range: 'bytes=99-' } })
    await waitFor('the file is closed', async () => (await openCount('ten.txt')) === 0)
  })

  it('a client that leaves closes the file', async () => {
    await build.write('large.bin', Buffer.alloc(64 * 1024 * 1024, 'x'))
    const { port, url } = await start()
    const client = await rawClient(port, raw('/large.bin'))
    client.socket.pause()
    await waitFor('the file is open', async () => (await openCount('large.bin')) === 1)
    client.socket.destroy()
    await waitFor('the file is closed', async () => (await openCount('large.bin')) === 0)
    expect((await fetch(`${url}/ten.txt`)).status).toBe(200)
  })
})

describe('a directory that cannot be served is refused at the start', () => {
  it.each([
    ['nothing there', 'missing', 'is not a directory'],
    ['a file', 'ten.txt', 'is not a directory'],
  ])('%s', (_, name, message) => {
    expect(() =>
      createSpaFiles({
        directory: join(build.path, name),
        csp: 'default',
        publicUrl: 'https://app.example.com',
      }),
    ).toThrow(message)
  })
})
