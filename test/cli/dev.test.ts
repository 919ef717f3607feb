/** `coatcheck dev` as a front-end developer runs it: their app and API behind it, a sign-in, and mistakes explained. */

import { createServer, type Server } from 'node:http'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type Browser, createBrowser } from '../support/browser.ts'
import type { Child } from '../support/child.ts'
import { createCookieJar } from '../support/cookie-jar.ts'
import { freePort } from '../support/free-port.ts'
import { signIn } from '../support/sign-in.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import { answerJson, startUpstreamApi, type UpstreamApi } from '../support/upstream-api.ts'
import { waitFor } from '../support/wait.ts'
import { launchCoatcheck, runCoatcheck, startCoatcheck } from './run-coatcheck.ts'

const PAGE = '<!doctype html><title>the app</title>'

const ports = async () => {
  const [gateway, provider] = [await freePort(), await freePort()]
  const env = {
    COATCHECK_LISTEN: `127.0.0.1:${gateway}`,
    COATCHECK_DEV_PROVIDER_LISTEN: `127.0.0.1:${provider}`,
  }
  return { gateway, provider, env }
}

const started = (child: Child) =>
  waitFor(
    'coatcheck dev says which address to open',
    () => {
      if (child.hasExited()) throw new Error(child.stderr.join('\n'))
      return /open (http:\S+)/.exec(child.stdout.join('\n'))?.[1]
    },
    { timeoutMs: 20_000 },
  )

describe('in front of an app and an API', () => {
  let app: UpstreamApi
  let api: UpstreamApi
  let child: Child
  let browser: Browser
  let output: () => string

  const CHALLENGE =
    'Bearer error="invalid_token", error_description="The audience is invalid \u009b31m"'

  beforeAll(async () => {
    const dead = await freePort()
    app = await startUpstreamApi({
      answer: (_request, response) =>
        void response.writeHead(200, { 'content-type': 'text/html' }).end(PAGE),
    })
    api = await startUpstreamApi({
      answer: (request, response) => {
        if (request.url === '/api/refused')
          return void response.writeHead(401, { 'www-authenticate': CHALLENGE }).end()
        if (request.url === '/api/scoped')
          return void response
            .writeHead(403, { 'www-authenticate': 'Bearer error="insufficient_scope", scope="x"' })
            .end()
        return answerJson({ url: request.url }, /strange|missing/.test(request.url) ? 404 : 200)(
          request,
          response,
        )
      },
    })
    const { env } = await ports()
    const cwd = temporaryDirectory({
      'coatcheck.users.yaml': `
users:
  - login: carol
    password: secret words
    claims: { name: Carol, roles: [admin, staff], tenant: { id: 7 } }
`,
      'coatcheck.yaml': `
user: { claims: [roles] }
routes:
  - { path: /gone, upstream: "http://127.0.0.1:${dead}" }
  - { path: /page, upstream: "${app.url}" }
  - { path: /strange, upstream: "http://localhost:${api.port}" }
`,
    })
    child = await launchCoatcheck(['dev', '--spa', app.url, '--api', api.url], env, cwd)
    output = () => child.stdout.join('\n')
    browser = createBrowser()
    await signIn(browser, await started(child), { login: 'carol', password: 'secret words' })
  }, 40_000)

  afterAll(async () => {
    await child?.kill()
    await app?.close()
    await api?.close()
  })

  const told = (words: string) =>
    waitFor(`coatcheck dev says "${words}"`, () => child.stderr.join('\n').includes(words))
  const timesTold = (words: string) => child.stderr.join('\n').split(words).length - 1

  test('the app is behind it, and the user of the file is signed in', async () => {
    // First of all tests: nothing has gone wrong yet.
    expect(child.stderr).toEqual([])
    expect(browser.page.text).toBe(PAGE)
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({
      authenticated: true,
      user: { sub: 'carol', name: 'Carol', roles: ['admin', 'staff'] },
    })
  })

  test('a browser that drops Secure cookies on http, as Safari does, signs in too', async () => {
    const safari = createBrowser({ jar: createCookieJar(Date.now, 'drops-on-http') })
    await signIn(safari, await started(child), { login: 'carol', password: 'secret words' })
    expect((await safari.fetch('/bff/session')).json()).toMatchObject({ authenticated: true })
  })

  test('the API gets a token that is what was printed, with the claims of the file', async () => {
    const printed = (name: string) => new RegExp(`${name} +(\\S.*)`).exec(output())?.[1] ?? ''
    expect((await browser.fetch('/api/items')).status).toBe(200)
    const [request] = api.requests.slice(-1)
    const token = request?.header('authorization')?.replace(/^Bearer /, '') ?? ''
    const { payload, protectedHeader } = await jwtVerify(
      token,
      createRemoteJWKSet(new URL(printed('JWKS URL'))),
      { issuer: printed('issuer'), audience: printed('audience') },
    )
    expect(protectedHeader).toMatchObject({ alg: 'ES256', typ: 'at+jwt' })
    expect(payload).toMatchObject({
      sub: 'carol',
      roles: ['admin', 'staff'],
      tenant: { id: 7 },
      scope: printed('scopes'),
    })
    expect(child.stdout.join('\n') + child.stderr.join('\n')).not.toContain(token)
  })

  test('a 401 names what the token has and what the API says, once, and steers no terminal', async () => {
    for (let calls = 0; calls < 2; calls += 1)
      expect((await browser.fetch('/api/refused')).status).toBe(401)
    await told('answered 401 to GET /api/refused')
    const said = child.stderr.join('\n')
    expect(said).toContain('It says: Bearer error="invalid_token"')
    expect(said).toContain('Tell the API the audience urn:coatcheck:dev')
    expect(said).toContain('COATCHECK_AUDIENCE')
    expect(said).not.toContain('\u009b')
    expect(timesTold('answered 401')).toBe(1)
  })

  test('a missing scope names the setting', async () => {
    expect((await browser.fetch('/api/scoped')).status).toBe(403)
    await told('the access token lacks a scope, x.')
    await told('COATCHECK_SCOPE')
  })

  test('an API that is not there names --api', async () => {
    expect((await browser.fetch('/gone/items')).status).toBe(502)
    await told('where your API should be (GET /gone/items, connection_refused)')
    await told('--api (COATCHECK_UPSTREAM)')
  })

  test('HTML instead of JSON is known for the server of the app', async () => {
    expect((await browser.fetch('/page/items')).status).toBe(200)
    await told(`${app.url} answered GET /page/items with an HTML page.`)
    await told('It is the server of your app, not your API')
  })

  test('404 is explained where nothing was found yet, and nowhere else', async () => {
    expect((await browser.fetch('/strange/items')).status).toBe(404)
    await told('has no /strange/items (404 to GET)')
    await told('COATCHECK_UPSTREAM_STRIP_PREFIX=true')
    await browser.fetch('/api/items')
    expect((await browser.fetch('/api/missing')).status).toBe(404)
    expect(timesTold('/api/missing')).toBe(0)
  })

  test('an app that another origin calls is told which address to open', async () => {
    const answer = await browser.fetch('/api/items', {
      headers: { 'sec-fetch-site': 'same-site', origin: 'http://localhost:5173' },
    })
    expect(answer.status).toBe(403)
    await told('origin_mismatch: origin http://localhost:5173; expected http://localhost:')
  })
})

describe('addresses', () => {
  const squat = async (host: string): Promise<number> => {
    const port = await freePort()
    const server: Server = createServer()
    await new Promise<void>((resolve) => server.listen(port, host, resolve))
    onTestFinished(() => void server.close())
    return port
  }

  test.each([
    ['127.0.0.1', 'COATCHECK_LISTEN'],
    ['::1', 'COATCHECK_LISTEN'],
    ['127.0.0.1', 'COATCHECK_DEV_PROVIDER_LISTEN'],
  ])('a port taken on %s ends it with the name of %s', async (host, variable) => {
    const { env } = await ports()
    const port = await squat(host)
    const { code, stdout, stderr } = await runCoatcheck(['dev'], {
      ...env,
      [variable]: `127.0.0.1:${port}`,
    })
    expect(code).toBe(69)
    expect(stdout).toBe('')
    expect(stderr).toContain(`:${port}: another process uses this port`)
    expect(stderr).toContain(`(${variable}), or free the address`)
  })

  test('a public URL that is not of this machine is no place for accounts that everybody knows', async () => {
    const { env } = await ports()
    const { code, stderr } = await runCoatcheck(['dev'], {
      ...env,
      COATCHECK_PUBLIC_URL: 'https://app.example.com',
    })
    expect(code).toBe(78)
    expect(stderr).toContain('publicUrl (COATCHECK_PUBLIC_URL) must be of this machine')
  })

  test('an API at the address of the gateway is refused by name', async () => {
    const { env, gateway } = await ports()
    const { code, stderr } = await runCoatcheck(
      ['dev', '--api', `http://localhost:${gateway}`],
      env,
    )
    expect(code).toBe(78)
    expect(stderr).toContain('upstream (COATCHECK_UPSTREAM) must not be')
  })
})

describe('with another provider', () => {
  test('that one is used, and none of its own is started', async () => {
    const { env, provider } = await ports()
    const child = await startCoatcheck(['dev'], {
      ...env,
      COATCHECK_ISSUER: 'http://127.0.0.1:1',
      COATCHECK_CLIENT_ID: 'shop',
      COATCHECK_CLIENT_SECRET: 'c1ient-5ecret',
    })
    const url = await started(child)
    expect(child.stderr.join('\n')).toContain('The provider http://127.0.0.1:1 does not answer')
    await waitFor('the redirect URI', () =>
      child.stdout.some((line) => line.endsWith(`${url}/bff/callback`)),
    )
    await expect(fetch(`http://127.0.0.1:${provider}`)).rejects.toThrow()
  })

  test('its client is asked for', async () => {
    const { env } = await ports()
    const { code, stderr } = await runCoatcheck(['dev'], {
      ...env,
      COATCHECK_ISSUER: 'http://127.0.0.1:1',
    })
    expect(code).toBe(78)
    expect(stderr).toContain('clientId (COATCHECK_CLIENT_ID) is required')
    expect(stderr).toContain('clientSecret (COATCHECK_CLIENT_SECRET) is required')
  })
})

describe('the command after --', () => {
  const isAlive = (pid: number): boolean => {
    try {
      return process.kill(pid, 0)
    } catch {
      return false
    }
  }

  test('its exit status is the one of dev, and what it says comes through', async () => {
    const { env } = await ports()
    const { code, stdout, stderr } = await runCoatcheck(
      ['dev', '--', 'sh', '-c', 'echo "hello from $0"; exit 7', 'the app'],
      env,
    )
    expect(code).toBe(7)
    expect(stdout).toContain('hello from the app')
    expect(stderr).toContain('sh ended with exit code 7')
  })

  test('one that does not exist ends it as in a shell', async () => {
    const { env } = await ports()
    const { code, stderr } = await runCoatcheck(['dev', '--', 'no-such-command'], env)
    expect(code).toBe(127)
    expect(stderr).toContain('no-such-command could not be started')
  })

  test('none after -- is a mistake', async () => {
    const { code, stderr } = await runCoatcheck(['dev', '--'])
    expect(code).toBe(64)
    expect(stderr).toContain('a command is missing after --')
  })

  // The shell waits for its child, as npm does for Vite: both must go.
  const FAMILY = `sh -c 'echo "pids $PPID $$"; exec sleep 60'; true`
  const family = async (child: Child): Promise<readonly number[]> => {
    const line = await waitFor(
      'the command runs',
      () => child.stdout.find((one) => one.startsWith('pids ')),
      { timeoutMs: 20_000 },
    )
    return line.split(' ').slice(1).map(Number)
  }

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    '%s ends it with all its descendants',
    async (signal) => {
      const { env } = await ports()
      const child = await startCoatcheck(['dev', '--', 'sh', '-c', FAMILY], env)
      const pids = await family(child)
      child.signal(signal)
      expect(await child.exited).toEqual({ code: 0, signal: null })
      expect(pids.filter(isAlive)).toEqual([])
    },
  )

  test('it does not outlive a dev that is killed', async () => {
    const { env } = await ports()
    const child = await startCoatcheck(['dev', '--', 'sh', '-c', FAMILY], env)
    const pids = await family(child)
    await child.kill()
    await waitFor('they are gone', () => pids.every((pid) => !isAlive(pid)))
  })

  test('when its server answers, the address to open is said once more', async () => {
    const { env } = await ports()
    const port = await freePort()
    const server = `require('node:http').createServer().listen(${port}, 'localhost')`
    const child = await startCoatcheck(
      ['dev', '--spa', `http://localhost:${port}`, '--', process.execPath, '-e', server],
      env,
    )
    const url = await started(child)
    await waitFor(
      'the address is said again',
      () =>
        child.stdout.includes(
          `coatcheck: your app is up; open ${url} (not http://localhost:${port})`,
        ),
      { timeoutMs: 10_000 },
    )
  })
})
