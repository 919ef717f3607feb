/** Loading: where values come from, what overrides what, and every problem at once without any value in it. */

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadConfig } from '../../../src/config/load.ts'
import { ConfigError } from '../../../src/config/problems.ts'
import { SETTINGS } from '../../../src/config/settings.ts'
import { isServiceLink, KNOWN_VARIABLES } from '../../../src/config/variables.ts'
import { emptyDirectory, load, loadYaml, MINIMAL, problemsOf, RING_SECRET } from './minimal.ts'

describe('the smallest sidecar', () => {
  test('needs nothing but seven facts, and has the documented defaults', () => {
    const config = load({})
    expect(config).toMatchObject({
      publicUrl: 'https://app.example.com',
      listen: { host: '127.0.0.1', port: 3000 },
      operations: { listen: { host: '127.0.0.1', port: 9090 }, readiness: [] },
      prefix: '/bff',
      scope: undefined,
      csrf: 'fetch-metadata',
      session: { idle: 1800, absolute: 28_800, sameSite: 'strict', persistent: false },
      provider: { timeout: 5, tokenTimeout: 5, clientAuthentication: 'client_secret_basic' },
      trustedProxies: [],
      spa: undefined,
    })
    expect(config.redis.url).toBeUndefined()
    expect(config.routes).toEqual([
      {
        path: '/api',
        methods: undefined,
        upstream: 'http://127.0.0.1:8080',
        stripPrefix: false,
        accept: ['session'],
        credential: 'user',
        documents: false,
        webSocket: true,
        webSockets: { origin: 'keep', idle: 3_600_000, lifetime: 86_400_000 },
        eventSource: false,
        encodedSlash: false,
        preserveHost: false,
        cookies: [],
        setCookies: [],
        bodyBytesMax: 10_485_760,
        timeout: { connect: 2000, firstByte: 30_000, idle: 60_000, total: 0 },
        cache: 'private, no-store',
      },
    ])
  })

  test('says that sessions in memory end with the process, and nothing else', () => {
    const { warnings } = loadConfig({ env: MINIMAL, cwd: emptyDirectory() })
    expect(warnings).toEqual([expect.stringContaining('COATCHECK_REDIS_URL')])
  })

  test('cannot be changed afterwards', () => {
    const config = load({ COATCHECK_TRUSTED_PROXIES: '10.0.0.0/8' })
    const frozen = (value: object): boolean =>
      Object.isFrozen(value) &&
      Object.values(value).every(
        (inner) => typeof inner !== 'object' || inner === null || frozen(inner),
      )
    expect(frozen(config)).toBe(true)
  })

  test.each(Object.keys(MINIMAL))('is refused without %s', (variable) => {
    expect(problemsOf(() => load({ [variable]: undefined }))).toEqual([
      expect.objectContaining({
        variable,
        source: 'not set',
        rule: expect.stringContaining('is required'),
      }),
    ])
  })

  test.each(Object.keys(MINIMAL))('counts an empty %s as absent', (variable) => {
    expect(problemsOf(() => load({ [variable]: '' }))[0]?.source).toBe('not set')
  })

  test('needs no ring in the profile demo, which reads no coatcheck.yaml either', () => {
    const cwd = emptyDirectory({ 'coatcheck.yaml': 'nonsense: true' })
    const config = load({ COATCHECK_SECRET: undefined }, { cwd, profile: 'demo' })
    expect(config.secret).toBeUndefined()
  })
})

describe('the profile dev', () => {
  const defaults = () => ({
    COATCHECK_PUBLIC_URL: 'http://localhost:3000',
    COATCHECK_SESSION_IDLE: '5m',
    COATCHECK_SPA: 'http://localhost:5173',
  })

  test('needs no ring, and reads coatcheck.yaml', () => {
    const cwd = emptyDirectory({ 'coatcheck.yaml': 'session: { idle: 10m }' })
    const config = load({ COATCHECK_SECRET: undefined }, { cwd, profile: 'dev' })
    expect(config.secret).toBeUndefined()
    expect(config.session.idle).toBe(600)
  })

  test('fills in what neither the environment nor the file says', () => {
    const cwd = emptyDirectory({ 'coatcheck.yaml': 'session: { idle: 10m }' })
    const config = load({}, { cwd, profile: 'dev', defaults })
    expect(config.publicUrl).toBe('https://app.example.com')
    expect(config.session.idle).toBe(600)
    expect(config.spa).toEqual({ kind: 'upstream', origin: 'http://localhost:5173' })
  })

  test('is told what was written, to fill in what goes with it', () => {
    let seen: unknown
    const isSet: boolean[] = []
    load(
      { COATCHECK_LISTEN: '127.0.0.1:3456' },
      {
        profile: 'dev',
        defaults: (written) => {
          seen = written.settings.listen
          isSet.push(written.isSet('listen'), written.isSet('session.idle'))
          return {}
        },
      },
    )
    expect(seen).toEqual({ host: '127.0.0.1', port: 3456 })
    expect(isSet).toEqual([true, false])
  })

  test('the app that stands before the gateway is not behind it too', () => {
    const app = {
      COATCHECK_PUBLIC_URL: 'http://localhost:5173',
      COATCHECK_SPA: 'http://localhost:5173',
    }
    expect(load(app, { profile: 'dev' }).spa).toBeUndefined()
    expect(problemsOf(() => load(app))[0]?.rule).toContain('must not be the public URL')
  })

  test('a relative users file begins where it is named', () => {
    const cwd = emptyDirectory({ 'coatcheck.yaml': 'dev: { users: people.yaml }' })
    expect(load({}, { cwd, profile: 'dev' }).dev.users).toBe(join(cwd, 'people.yaml'))
  })
})

describe('the file', () => {
  const FILE = `
publicUrl: https://app.example.com
issuer: https://login.example.com
clientId: shop
clientSecret: c1ient-5ecret
secret: [${RING_SECRET}]
session: { idle: 10m, sameSite: strict }
redis:
authorizationParams: { access_type: offline }
signIn: { require: { groups: [staff, admins], email_domain: example.com } }
routes:
  - path: /orders
    upstream: http://orders:8080/v1
    methods: [GET, POST]
    timeout: { idle: 5m }
  - path: /events
    upstream: http://events:8080
    eventSource: true
    cookies: [theme]
  - path: /public
    upstream: http://orders:8080
    accept: [anonymous]
`

  test('alone is enough, and routes in it need no upstream', () => {
    const config = loadConfig({ env: {}, cwd: emptyDirectory({ 'coatcheck.yaml': FILE }) }).config
    expect(config.session.idle).toBe(600)
    expect(config.authorizationParams).toEqual({ access_type: 'offline' })
    expect(config.signIn.require).toEqual({
      groups: ['staff', 'admins'],
      email_domain: ['example.com'],
    })
    expect(config.routes).toMatchObject([
      {
        path: '/orders',
        methods: ['GET', 'POST'],
        credential: 'user',
        webSocket: false,
        webSockets: { origin: 'keep', idle: 3_600_000, lifetime: 86_400_000 },
        timeout: { idle: 300_000, connect: 2000 },
      },
      { path: '/events', cookies: ['theme'], timeout: { idle: 0 } },
      { path: '/public', accept: ['anonymous'], credential: 'none' },
    ])
  })

  test('is overridden by variables, setting by setting', () => {
    const config = loadYaml('session: { idle: 10m, absolute: 1h }\napiPaths: /v1,/v2', {
      COATCHECK_SESSION_IDLE: '5m',
    })
    expect(config.session).toMatchObject({ idle: 300, absolute: 3600 })
    expect(config.routes.map(({ path }) => path)).toEqual(['/v1', '/v2'])
  })

  test('adds its routes to those of upstream and apiPaths', () => {
    const config = loadYaml('routes: [{ path: /x, upstream: "http://x:1" }]')
    expect(config.routes.map(({ path }) => path)).toEqual(['/api', '/x'])
  })

  test('is found by --config before COATCHECK_CONFIG before coatcheck.yaml', () => {
    const cwd = emptyDirectory({
      'coatcheck.yaml': 'prefix: /default',
      'named.yaml': 'prefix: /named',
      'flag.yaml': 'prefix: /flag',
    })
    const env = { COATCHECK_CONFIG: 'named.yaml' }
    expect(load({}, { cwd }).prefix).toBe('/default')
    expect(load(env, { cwd }).prefix).toBe('/named')
    expect(load(env, { cwd, configFile: 'flag.yaml' }).prefix).toBe('/flag')
  })

  test('must be there when it was asked for', () => {
    const problems = problemsOf(() => load({}, { configFile: 'no.yaml' }))
    expect(problems).toEqual([
      { setting: '', rule: 'must be a file that can be read (ENOENT)', source: 'file no.yaml' },
    ])
  })

  test('resolves the app’s directory beside itself, a variable in the working directory', () => {
    const cwd = emptyDirectory()
    mkdirSync(join(cwd, 'etc/dist'), { recursive: true })
    mkdirSync(join(cwd, 'dist'))
    writeFileSync(join(cwd, 'etc/c.yaml'), 'spa: { directory: ./dist }')
    const options = { cwd, configFile: 'etc/c.yaml' }
    expect(load({}, options).spa).toMatchObject({
      directory: join(cwd, 'etc/dist'),
      csp: 'default',
    })
    expect(load({ COATCHECK_SPA: 'dist' }, options).spa).toMatchObject({
      directory: join(cwd, 'dist'),
    })
  })

  test('loses its decision where the app is to a variable that makes it', () => {
    const yaml = 'spa: { directory: /nowhere }'
    const spa = { kind: 'upstream', origin: 'http://127.0.0.1:5173' }
    expect(loadYaml(yaml, { COATCHECK_SPA: 'http://127.0.0.1:5173' }).spa).toEqual(spa)
    expect(loadYaml(yaml, { COATCHECK_SPA_UPSTREAM: 'http://127.0.0.1:5173' }).spa).toEqual(spa)
  })

  test.each([
    ['a key twice', 'prefix: /a\nprefix: /b', /must not contain a key twice: in line 2/],
    ['a second document', 'prefix: /a\n---\nprefix: /b', /one YAML document/],
    ['an unclosed bracket', 'apiPaths: [/a', /must be valid YAML in line/],
    ['a tab for indentation', 'session:\n\tidle: 1m', /there is a tab/],
    ['an alias', 'prefix: &a /a\nissuer: *a', /must not use YAML aliases/],
    ['a tag', 'prefix: !!js/function "x"', /must not use YAML tags/],
    ['binary', 'clientId: !!binary aGk=', /must not use YAML tags/],
    ['a list at the top', '- prefix', /must be a map of settings/],
    ['one word', 'coatcheck', /must be a map of settings/],
    ['a group that is a text', 'session: 30m', /must be a map of settings/],
    ['routes that are a map', 'routes: { path: /x }', /must be a list of at most 500 routes/],
    ['a number for a text', 'clientId: 42', /must be text \(in YAML, put quotes around it\)/],
    ['a number for a duration', 'session: { idle: 30 }', /must be a duration/],
    ['a text for a boolean', 'session: { persistent: "yes" }', /must be true or false/],
    ['a nested list', 'apiPaths: [[/a]]', /must be text/],
  ])('is refused with %s', (_, yaml, rule) => {
    const changes = {
      COATCHECK_CLIENT_ID: yaml.includes('clientId') ? undefined : 'shop',
      COATCHECK_ISSUER: MINIMAL.COATCHECK_ISSUER,
    }
    const [problem] = problemsOf(() => loadYaml(yaml, changes))
    expect(problem).toMatchObject({
      rule: expect.stringMatching(rule),
      source: 'file coatcheck.yaml',
    })
  })

  test.each([
    ['a directory', (cwd: string) => mkdirSync(join(cwd, 'c.yaml')), /must be a regular file/],
    [
      'too large a file',
      (cwd: string) => writeFileSync(join(cwd, 'c.yaml'), 'x'.repeat(1024 * 1024 + 1)),
      /at most 1048576 bytes/,
    ],
    [
      'a file that is no UTF-8',
      (cwd: string) => writeFileSync(join(cwd, 'c.yaml'), Buffer.from([0x61, 0xff])),
      /must be text in UTF-8/,
    ],
  ])('may not be %s', (_, make, rule) => {
    const cwd = emptyDirectory()
    make(cwd)
    const [problem] = problemsOf(() => load({}, { cwd, configFile: 'c.yaml' }))
    expect(problem?.rule).toMatch(rule)
  })

  test.each([
    ['sesion: {}', 'sesion', 'session'],
    ['session: { idel: 1m }', 'session.idel', 'session.idle'],
    ['client_secret: x', 'client_secret', 'clientSecret'],
    [
      'routes: [{ path: /x, upstream: "http://x", pathh: /y }]',
      'routes[0].pathh',
      'routes[0].path',
    ],
    ['__proto__: { a: 1 }', '__proto__', ''],
    ['constructor: 1', 'constructor', ''],
    ['response_type: token', 'response_type', ''],
  ])('%s names the nearest setting', (yaml, setting, near) => {
    expect(problemsOf(() => loadYaml(yaml))).toEqual([
      {
        setting,
        rule: expect.stringContaining(`is no setting; the nearest is ${near}`),
        source: 'file coatcheck.yaml',
      },
    ])
  })

  test('that cannot be parsed does not make its settings look missing', () => {
    const cwd = emptyDirectory({ 'coatcheck.yaml': 'publicUrl: [' })
    const problems = problemsOf(() => loadConfig({ env: { COATCHECK_SCOPE: 'x' }, cwd }))
    expect(problems.map(({ source }) => source)).toEqual(['file coatcheck.yaml', 'environment'])
  })
})

describe('variables', () => {
  test.each([
    ['COATCHECK_PUBLICURL', 'COATCHECK_PUBLIC_URL'],
    ['COATCHECK_REDIS', 'COATCHECK_REDIS_URL'],
    ['COATCHECK_CLIENT_SECRET_FIL', 'COATCHECK_CLIENT_SECRET_FILE'],
    ['COATCHECK_SESSION_IDEL', 'COATCHECK_SESSION_IDLE'],
    ['COATCHECK_ROUTES', 'COATCHECK_'],
    ['COATCHECK_CONFIG_FILE', 'COATCHECK_CONFIG'],
    ['COATCHECK_ADMIN_TOKENS', 'COATCHECK_ADMIN_TOKEN'],
    ['COATCHECK_', 'COATCHECK_'],
  ])('%s is unknown, and the nearest is named', (variable, near) => {
    expect(problemsOf(() => load({ [variable]: 'x' }))).toEqual([
      {
        setting: '',
        variable,
        rule: expect.stringContaining(`the nearest is ${near}`),
        source: 'environment',
      },
    ])
  })

  test.each([
    'COATCHECK_SERVICE_HOST',
    'COATCHECK_SERVICE_PORT',
    'COATCHECK_SERVICE_PORT_HTTP',
    'COATCHECK_PORT',
    'COATCHECK_PORT_3000_TCP',
    'COATCHECK_PORT_3000_TCP_ADDR',
    'COATCHECK_REDIS_SERVICE_HOST',
    'COATCHECK_REDIS_PORT',
  ])('%s is a Kubernetes service link and means nothing', (variable) => {
    expect(load({ [variable]: 'tcp://10.0.0.1:3000' }).listen.port).toBe(3000)
  })

  test('no setting is named like a service link', () => {
    const names = KNOWN_VARIABLES.flatMap((name) => [name, `${name}_FILE`])
    expect(names.filter(isServiceLink)).toEqual([])
  })

  test('no two settings share a variable', () => {
    expect(new Set(KNOWN_VARIABLES).size).toBe(KNOWN_VARIABLES.length)
  })

  test('of others are none of our business', () => {
    expect(load({ coatcheck_public_url: 'x', COATCHECKX: 'y', PATH: '' }).publicUrl).toBe(
      MINIMAL.COATCHECK_PUBLIC_URL,
    )
  })

  test.each([
    ['COATCHECK_SPA', 'COATCHECK_SPA_DIRECTORY'],
    ['COATCHECK_SPA', 'COATCHECK_SPA_UPSTREAM'],
    ['COATCHECK_SPA_DIRECTORY', 'COATCHECK_SPA_UPSTREAM'],
  ])('%s and %s do not go together', (one, other) => {
    const text = (name: string) => (name.endsWith('UPSTREAM') ? 'http://127.0.0.1:1' : '/')
    expect(
      problemsOf(() => load({ [one]: text(one), [other]: text(other) })).length,
    ).toBeGreaterThan(0)
  })
})

describe('_FILE', () => {
  const loadFile = (
    content: string,
    changes: Readonly<Record<string, string | undefined>> = {},
  ) => {
    const cwd = emptyDirectory({ secret: content })
    return load({
      COATCHECK_CLIENT_SECRET: undefined,
      COATCHECK_CLIENT_SECRET_FILE: join(cwd, 'secret'),
      ...changes,
    })
  }

  test.each([
    ['s3cret', 's3cret'],
    ['s3cret\n', 's3cret'],
    ['s3cret\r\n', 's3cret'],
    [' s3cret \n', ' s3cret '],
    ['\uFEFFs3cret', 's3cret'],
  ])('content %j means %j', (content, meaning) => {
    expect(loadFile(content).clientSecret.current).toBe(meaning)
  })

  test.each([
    ['nothing', ''],
    ['a newline alone', '\n'],
    ['two newlines at the end', 's3cret\n\n'],
    ['more than 64 KiB', 'x'.repeat(64 * 1024 + 1)],
  ])('refuses %s', (_, content) => {
    expect(problemsOf(() => loadFile(content))).toEqual([
      expect.objectContaining({
        setting: 'clientSecret',
        variable: 'COATCHECK_CLIENT_SECRET_FILE',
        source: 'file that COATCHECK_CLIENT_SECRET_FILE names',
      }),
    ])
  })

  test('works for every setting that has a variable', () => {
    const cwd = emptyDirectory({
      idle: '7m\n',
      proxies: '10.0.0.0/8,192.0.2.1\n',
      spa: 'http://127.0.0.1:5173\n',
    })
    const config = load({
      COATCHECK_SESSION_IDLE_FILE: join(cwd, 'idle'),
      COATCHECK_TRUSTED_PROXIES_FILE: join(cwd, 'proxies'),
      COATCHECK_SPA_FILE: join(cwd, 'spa'),
    })
    expect(config.session.idle).toBe(420)
    expect(config.trustedProxies).toEqual(['10.0.0.0/8', '192.0.2.1/32'])
    expect(config.spa).toEqual({ kind: 'upstream', origin: 'http://127.0.0.1:5173' })
  })

  test('goes before the file, like its variable', () => {
    const cwd = emptyDirectory({ 'coatcheck.yaml': 'session: { idle: 1m }', idle: '7m' })
    expect(load({ COATCHECK_SESSION_IDLE_FILE: join(cwd, 'idle') }, { cwd }).session.idle).toBe(420)
  })

  test('together with its variable is refused', () => {
    expect(problemsOf(() => loadFile('s3cret', { COATCHECK_CLIENT_SECRET: 'other' }))).toEqual([
      {
        setting: 'clientSecret',
        variable: 'COATCHECK_CLIENT_SECRET',
        rule: 'must not be set together with COATCHECK_CLIENT_SECRET_FILE',
        source: 'environment',
      },
    ])
  })

  test('that is empty counts as absent', () => {
    expect(load({ COATCHECK_CLIENT_SECRET_FILE: '' }).clientSecret.current).toBe('c1ient-5ecret')
  })

  test('never shows its path, which may be the secret itself in the wrong variable', () => {
    const problems = problemsOf(() =>
      load({ COATCHECK_SECRET: undefined, COATCHECK_SECRET_FILE: `/${RING_SECRET}` }),
    )
    expect(problems).toHaveLength(1)
    expect(JSON.stringify(problems)).not.toContain(RING_SECRET)
  })

  test('that must not be read says so', () => {
    const cwd = emptyDirectory({ secret: 'x' })
    chmodSync(join(cwd, 'secret'), 0o000)
    const isRoot = process.getuid?.() === 0
    const act = () =>
      load({
        COATCHECK_CLIENT_SECRET: undefined,
        COATCHECK_CLIENT_SECRET_FILE: join(cwd, 'secret'),
      })
    // The superuser may read everything.
    if (isRoot) expect(act().clientSecret.current).toBe('x')
    else expect(problemsOf(act)[0]?.rule).toBe('must be a file that can be read (EACCES)')
  })
})

describe('problems', () => {
  test('come all at once, whatever they are about', () => {
    const cwd = emptyDirectory({
      'coatcheck.yaml':
        'sesion: 1\nsession: { absolute: 1h }\nroutes: [{ path: /bff/x, upstream: "http://x", accept: [bearer] }]',
    })
    const problems = problemsOf(() =>
      load(
        {
          COATCHECK_PUBLIC_URL: 'http://app.example.com',
          COATCHECK_ISSUER: undefined,
          COATCHECK_SESSION_IDLE: '2h',
          COATCHECK_SECRET: 'short',
          COATCHECK_TYPO: '1',
          COATCHECK_REDIS_URL_FILE: '/no/such/file',
        },
        { cwd },
      ),
    )
    expect(problems.map(({ setting, variable }) => setting || variable).sort()).toEqual([
      'COATCHECK_TYPO',
      'issuer',
      'publicUrl',
      'redis.url',
      'routes[0].accept[0]',
      'routes[0].path',
      'secret[0]',
      'sesion',
      'session.idle',
    ])
  })

  test('never repeat a value, from whichever source and setting', () => {
    const canary = 'cAnArY0\u0007'
    const env = Object.fromEntries(
      SETTINGS.flatMap(({ variable }) => (variable === undefined ? [] : [[variable, canary]])),
    )
    const yaml = SETTINGS.filter(({ path }) => !path.includes('[]')).map(({ path }) => {
      const [group = '', key] = path.split('.')
      return key === undefined ? `${group}: "cAnArY0\\a"` : undefined
    })
    const files = {
      'coatcheck.yaml': yaml.filter((line) => line !== undefined).join('\n'),
      broken: 'x: "cAnArY0',
    }
    const attempts = [
      () => loadConfig({ env, cwd: emptyDirectory() }),
      () => loadConfig({ env: {}, cwd: emptyDirectory(files) }),
      () => loadConfig({ env: {}, cwd: emptyDirectory(files), configFile: 'broken' }),
    ]
    for (const attempt of attempts) {
      expect(attempt).toThrow(ConfigError)
      expect(attempt).not.toThrow(/cAnArY0/)
      expect(JSON.stringify(problemsOf(attempt))).not.toContain('cAnArY0')
    }
  })

  test('say setting, variable, rule and source in one line each, without control characters', () => {
    const act = () => load({ COATCHECK_CSRF: 'off', 'COATCHECK_CSR\u001b[2J': 'x' })
    expect(act).toThrow(
      [
        'The configuration has 2 problems:',
        '  - COATCHECK_CSR?[2J is no variable of Coatcheck; the nearest is COATCHECK_CSRF [environment]',
        '  - csrf (COATCHECK_CSRF) must be fetch-metadata or header [environment]',
      ].join('\n'),
    )
  })
})
