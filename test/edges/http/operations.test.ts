import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { type ListeningServer, startListener } from '../../../src/edges/http/listener.ts'
import { createOperations, type OperationsOptions } from '../../../src/edges/http/operations.ts'

const started: ListeningServer[] = []
afterEach(() => Promise.all(started.splice(0).map((server) => server.close())))

const start = async (options: Partial<OperationsOptions> = {}): Promise<string> => {
  const server = await startListener({
    listener: createOperations({
      state: () => 'serving',
      store: async () => 'ok',
      provider: () => 'ok',
      readiness: [],
      admin: undefined,
      emit: () => {},
      metrics: { text: async () => 'a_metric 1\n', contentType: 'text/plain; version=0.0.4' },
      ...options,
    }),
    address: { host: '127.0.0.1', port: 0 },
    onError: (error) => expect.unreachable(String(error)),
  })
  started.push(server)
  return `http://127.0.0.1:${server.address.port}`
}

describe('/livez', () => {
  it('answers 200 whatever else is down', async () => {
    const url = await start({
      state: () => 'draining',
      store: () => Promise.reject(new Error('down')),
      provider: () => 'unavailable',
    })
    const response = await fetch(`${url}/livez`)
    expect(response.status).toBe(200)
    expect(response.headers.get('cache-control')).toBe('no-store')
  })
})

describe('/readyz', () => {
  const readyz = async (url: string) => {
    const response = await fetch(`${url}/readyz`)
    expect(response.headers.get('cache-control')).toBe('no-store')
    return { code: response.status, ...((await response.json()) as object) }
  }

  it.each(['starting', 'draining'] as const)('answers 503 while %s', async (state) => {
    const url = await start({ state: () => state })
    expect(await readyz(url)).toEqual({ code: 503, status: state })
  })

  it.each([
    ['ok', 'ok', 'ready'],
    ['ok', 'unknown', 'ready'],
    ['ok', 'unavailable', 'degraded'],
    ['unavailable', 'ok', 'degraded'],
  ] as const)(
    'a shared outage keeps the replica in rotation: store %s, provider %s → 200 %s',
    async (store, provider, status) => {
      const url = await start({ store: async () => store, provider: () => provider })
      expect(await readyz(url)).toEqual({ code: 200, status, store, provider })
    },
  )

  it.each([
    ['store', 'unavailable', 'ok', 503],
    ['store', 'ok', 'unavailable', 200],
    ['provider', 'ok', 'unavailable', 503],
    ['provider', 'unavailable', 'ok', 200],
    ['provider', 'ok', 'unknown', 200],
  ] as const)(
    'readiness %s: store %s and provider %s → %i',
    async (name, store, provider, code) => {
      const url = await start({
        readiness: [name],
        store: async () => store,
        provider: () => provider,
      })
      expect(await readyz(url)).toMatchObject({ code, store, provider })
    },
  )

  it('a store that throws counts as unavailable', async () => {
    const url = await start({ store: () => Promise.reject(new Error('down')) })
    expect(await readyz(url)).toMatchObject({ code: 200, store: 'unavailable' })
  })

  it('a store that hangs is waited for half a second, once for all who ask', async () => {
    let asked = 0
    const url = await start({
      store: () => {
        asked += 1
        return new Promise(() => {})
      },
    })
    const startedMs = performance.now()
    const answers = await Promise.all([1, 2, 3, 4, 5].map(() => readyz(url)))
    const tookMs = performance.now() - startedMs
    expect(answers).toEqual(Array(5).fill(expect.objectContaining({ store: 'unavailable' })))
    expect(tookMs).toBeGreaterThan(450)
    expect(tookMs).toBeLessThan(3_000)
    expect(asked).toBe(1)
  })

  it('an answer of the store holds for a second, then it is asked again', async () => {
    let state: 'ok' | 'unavailable' = 'ok'
    let asked = 0
    const url = await start({
      store: async () => {
        asked += 1
        return state
      },
    })
    await readyz(url)
    state = 'unavailable'
    expect(await readyz(url)).toMatchObject({ store: 'ok' })
    expect(asked).toBe(1)
    await sleep(1_100)
    expect(await readyz(url)).toMatchObject({ store: 'unavailable' })
    expect(asked).toBe(2)
  })
})

describe('/metrics', () => {
  it('answers the exposition text with its own type', async () => {
    const url = await start()
    const response = await fetch(`${url}/metrics`)
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4')
    expect(await response.text()).toBe('a_metric 1\n')
  })

  it('a registry that fails is a 500 problem without its message', async () => {
    const url = await start({
      metrics: { text: () => Promise.reject(new Error('canary')), contentType: 'text/plain' },
    })
    const response = await fetch(`${url}/metrics`)
    expect(response.status).toBe(500)
    const body = await response.text()
    expect(JSON.parse(body)).toMatchObject({ code: 'internal' })
    expect(body).not.toContain('canary')
  })
})

describe('everything else', () => {
  it.each([
    '/',
    '/admin/sessions',
    '/livez/',
    '/LIVEZ',
    '//livez',
    '/readyz/x',
    '/api/items',
    '/constructor',
    '/__proto__',
    '/bff/session',
  ])('%s is 404', async (path) => {
    const url = await start()
    const response = await fetch(url + path)
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ code: 'route_not_found' })
  })

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS'])('%s is 405 with Allow', async (method) => {
    const url = await start()
    const response = await fetch(`${url}/readyz`, { method })
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe('GET, HEAD')
  })

  it('HEAD is GET without its body, and a query changes nothing', async () => {
    const url = await start()
    const response = await fetch(`${url}/readyz?verbose`, { method: 'HEAD' })
    expect(response.status).toBe(200)
    expect(Number(response.headers.get('content-length'))).toBeGreaterThan(10)
    expect(await response.text()).toBe('')
  })
})
