/** Each setting in the forms that it takes, and their refused twins. */

import { describe, expect, test } from 'vitest'
import type { Config } from '../../../src/config/config.ts'
import { SETTINGS, variableOf } from '../../../src/config/settings.ts'
import { ADMIN_TOKEN, load, OTHER_SECRET, problemsOf, RING_SECRET } from './minimal.ts'

interface Row {
  readonly setting: string
  readonly read: (config: Config) => unknown
  /** Text of the variable → what it means. */
  readonly accepted: readonly (readonly [string, unknown])[]
  readonly refused: readonly string[]
}

const LONG_SECRETS = `${RING_SECRET},${OTHER_SECRET}`

const ROWS: readonly Row[] = [
  {
    setting: 'publicUrl',
    read: ({ publicUrl }) => publicUrl,
    accepted: [
      ['https://app.example.com', 'https://app.example.com'],
      ['https://app.example.com/', 'https://app.example.com'],
      ['HTTPS://App.Example.com:443', 'https://app.example.com'],
      ['https://app.example.com:8443', 'https://app.example.com:8443'],
      ['http://localhost:3000', 'http://localhost:3000'],
      ['http://shop.localhost', 'http://shop.localhost'],
      ['http://127.9.8.7:1', 'http://127.9.8.7:1'],
      ['http://[::1]:3000', 'http://[::1]:3000'],
    ],
    refused: [
      'http://app.example.com',
      'http://localhost.example.com',
      'http://127.0.0.1.example.com',
      'http://0.0.0.0:3000',
      'http://10.0.0.1',
      'http://[::2]',
      'https://app.example.com/app',
      'https://app.example.com?x=1',
      'https://app.example.com/?',
      'https://app.example.com#x',
      'https://user@app.example.com',
      'https://user:pass@app.example.com',
      'https://*.example.com',
      'https://app.example.com\\x',
      'https:\\\\app.example.com',
      'https://app.exa mple.com',
      'https://app.example.com\n',
      ' https://app.example.com',
      'https://%61pp.example.com',
      'https://',
      'app.example.com',
      '//app.example.com',
      'ftp://app.example.com',
      'javascript:alert(1)',
      'https://app.example.com:99999',
    ],
  },
  {
    setting: 'issuer',
    read: ({ issuer }) => issuer,
    accepted: [
      ['https://login.example.com', 'https://login.example.com'],
      ['https://login.example.com/', 'https://login.example.com/'],
      ['https://Login.example.com/realms/Shop', 'https://Login.example.com/realms/Shop'],
      ['http://localhost:8080/realms/shop', 'http://localhost:8080/realms/shop'],
      ['http://127.0.0.1:3100', 'http://127.0.0.1:3100'],
      ['http://[::1]:3100', 'http://[::1]:3100'],
    ],
    refused: [
      'http://login.example.com',
      'http://keycloak:8080/realms/shop',
      'https://login.example.com?tenant=1',
      'https://login.example.com/#x',
      'https://user@login.example.com',
      'login.example.com',
      'https://login.example.com/a b',
    ],
  },
  {
    setting: 'clientId',
    read: ({ clientId }) => clientId,
    accepted: [
      ['shop', 'shop'],
      ['https://shop.example.com/client 1', 'https://shop.example.com/client 1'],
    ],
    refused: ['sh\nop', 'shöp', 'x'.repeat(513)],
  },
  {
    setting: 'clientSecret',
    read: ({ clientSecret }) => clientSecret.current,
    accepted: [
      ['s', 's'],
      [' with+:%/é blanks ', ' with+:%/é blanks '],
    ],
    refused: ['two\nlines', 'tab\t', 'x'.repeat(4097)],
  },
  {
    setting: 'secret',
    read: ({ secret }) => secret?.current,
    accepted: [
      [RING_SECRET, [RING_SECRET]],
      [LONG_SECRETS, [RING_SECRET, OTHER_SECRET]],
      [` ${RING_SECRET} ,\r\n${OTHER_SECRET}\n`, [RING_SECRET, OTHER_SECRET]],
      ['0123456789abcdef0123456789abcdef', ['0123456789abcdef0123456789abcdef']],
    ],
    refused: [
      RING_SECRET.slice(1),
      `${RING_SECRET},short`,
      `${RING_SECRET},${RING_SECRET}`,
      ',',
      Array.from({ length: 11 }, (_, i) => `${RING_SECRET}${i}`).join(),
    ],
  },
  {
    setting: 'admin.token',
    read: ({ admin }) => admin.token?.current,
    accepted: [
      [ADMIN_TOKEN, [ADMIN_TOKEN]],
      [`${ADMIN_TOKEN}==,\n${ADMIN_TOKEN}`, [`${ADMIN_TOKEN}==`, ADMIN_TOKEN]],
    ],
    refused: [
      ADMIN_TOKEN.slice(1),
      `${ADMIN_TOKEN} x`,
      `${ADMIN_TOKEN}é`,
      `${ADMIN_TOKEN}=x`,
      `${ADMIN_TOKEN},${ADMIN_TOKEN}`,
      [1, 2, 3].map((count) => `${ADMIN_TOKEN}${count}`).join(),
      ',',
    ],
  },
  {
    setting: 'upstream',
    read: ({ routes }) => routes[0]?.upstream,
    accepted: [
      ['http://api:8080', 'http://api:8080'],
      ['http://my_service:8080/', 'http://my_service:8080'],
      ['https://api.example.com/v1/', 'https://api.example.com/v1'],
      ['http://[fd00::1]:80/a', 'http://[fd00::1]/a'],
    ],
    refused: [
      'api:8080',
      'http://user@api',
      'http://api/?x=1',
      'http://api/a?x',
      'http://api/#',
      'http://api/../x',
      'http://api/%2e%2e/x',
      'http://api/a/./b',
      'http://api/a//b',
      'http://api\\x',
      'http://api/a b',
      'ws://api',
      'file:///etc/passwd',
      'unix:/run/api.sock',
    ],
  },
  {
    setting: 'apiPaths',
    read: ({ routes }) => routes.map(({ path }) => path),
    accepted: [
      ['/api', ['/api']],
      ['/api, /graphql,/hubs/chat', ['/api', '/graphql', '/hubs/chat']],
      ['/api,', ['/api']],
    ],
    refused: [
      '/',
      'api',
      '/api/',
      '/a//b',
      '/a/../b',
      '/a/.',
      '/a%62',
      '/a?b',
      '/a#b',
      '/a b',
      '//a',
      '/api,/api',
      '/a\\b',
      ',',
    ],
  },
  {
    setting: 'prefix',
    read: ({ prefix }) => prefix,
    accepted: [
      ['/bff', '/bff'],
      ['/auth/bff', '/auth/bff'],
    ],
    refused: ['/', '/bff/', 'bff', '//bff', '/b%66f', '/bff?x', '/./bff'],
  },
  {
    setting: 'listen',
    read: ({ listen }) => listen,
    accepted: [
      ['127.0.0.1:3000', { host: '127.0.0.1', port: 3000 }],
      ['0.0.0.0:0', { host: '0.0.0.0', port: 0 }],
      ['[::1]:3000', { host: '::1', port: 3000 }],
      ['Gateway.internal:80', { host: 'gateway.internal', port: 80 }],
    ],
    refused: [
      '3000',
      ':3000',
      '127.0.0.1',
      '127.0.0.1:',
      '127.0.0.1:65536',
      '::1:3000',
      '[127.0.0.1]:80',
      '127.0.0:80',
      'http://127.0.0.1:80',
      '127.0.0.1:-1',
      '127.0.0.1:80 ',
    ],
  },
  {
    setting: 'operations.listen',
    read: ({ operations }) => operations.listen,
    accepted: [
      ['off', 'off'],
      ['0.0.0.0:9090', { host: '0.0.0.0', port: 9090 }],
    ],
    refused: ['OFF', 'none', '9090'],
  },
  {
    setting: 'operations.readiness',
    read: ({ operations }) => operations.readiness,
    accepted: [
      ['store', ['store']],
      ['store, provider', ['store', 'provider']],
    ],
    refused: ['redis', 'store,store'],
  },
  {
    setting: 'scope',
    read: ({ scope }) => scope,
    accepted: [['openid api:read https://x/y', 'openid api:read https://x/y']],
    refused: [
      'profile email',
      'openid  profile',
      'openid\tprofile',
      'openid "x"',
      'openidprofile',
      ' openid',
    ],
  },
  {
    setting: 'resource',
    read: ({ resource }) => resource,
    accepted: [
      ['https://api.example.com/', 'https://api.example.com/'],
      ['urn:example:api', 'urn:example:api'],
    ],
    refused: ['api.example.com', '/api', 'https://api.example.com/#x', 'https://api example'],
  },
  {
    setting: 'audience',
    read: ({ audience }) => audience,
    accepted: [['https://api.example.com', 'https://api.example.com']],
    refused: ['two words', 'x\ny'],
  },
  {
    setting: 'authorizationParams',
    read: ({ authorizationParams }) => authorizationParams,
    accepted: [
      ['access_type=offline&prompt=consent', { access_type: 'offline', prompt: 'consent' }],
      ['kc_idp_hint=a%20b%26c', { kc_idp_hint: 'a b&c' }],
      ['max_age=600', { max_age: '600' }],
    ],
    refused: [
      'client_id=x',
      'redirect_uri=https://evil.example',
      'response_type=token',
      'response_mode=fragment',
      'scope=openid',
      'state=x',
      'nonce=x',
      'code_challenge=x',
      'code_challenge_method=plain',
      'request=x',
      'request_uri=x',
      'resource=x',
      'audience=x',
      'client_secret=x',
      'a=1&state=x',
      'a=1&a=2',
      '=x',
      '__proto__=x',
      'a b=1',
      'a=%0d%0ab',
      'max_age=soon',
    ],
  },
  {
    setting: 'provider.connectTo',
    read: ({ provider }) => provider.connectTo,
    accepted: [['keycloak:8080', { host: 'keycloak', port: 8080 }]],
    refused: ['keycloak', 'keycloak:0', 'http://keycloak:8080'],
  },
  {
    setting: 'provider.clientAuthentication',
    read: ({ provider }) => provider.clientAuthentication,
    accepted: [['client_secret_post', 'client_secret_post']],
    refused: ['none', 'client_secret_jwt'],
  },
  {
    setting: 'provider.timeout',
    read: ({ provider }) => provider.timeout,
    accepted: [
      ['500ms', 0.5],
      ['45s', 45],
      ['1m', 60],
    ],
    refused: ['0s', '5', '5 s', '1.5s', '61s', '-1s', '5S', '1h', 'PT5S', '9999999999s'],
  },
  {
    setting: 'provider.tokenTimeout',
    read: ({ provider }) => provider.tokenTimeout,
    accepted: [['250ms', 0.25]],
    refused: ['99ms', '2m'],
  },
  {
    setting: 'provider.responseMode',
    read: ({ provider }) => provider.responseMode,
    accepted: [['form_post', 'form_post']],
    refused: ['fragment', 'jwt'],
  },
  {
    setting: 'provider.concurrency',
    read: ({ provider }) => provider.concurrency,
    accepted: [['1', 1]],
    refused: ['0', '1001', '1.5', '0x10', '1e2', 'many'],
  },
  {
    setting: 'provider.idTokenAlgorithms',
    read: ({ provider }) => provider.idTokenAlgorithms,
    accepted: [['ES256,EdDSA', ['ES256', 'EdDSA']]],
    refused: ['none', 'nOnE', 'HS256', 'RS256,HS256', 'RS1', 'rs256', ','],
  },
  {
    setting: 'provider.logoutTokens',
    read: ({ provider }) => provider.logoutTokens,
    accepted: [
      ['strict', 'strict'],
      ['compatible', 'compatible'],
    ],
    refused: ['lenient', 'true'],
  },
  {
    setting: 'provider.trustedAudiences',
    read: ({ provider }) => provider.trustedAudiences,
    accepted: [['project-1,project-2', ['project-1', 'project-2']]],
    refused: ['a\u0000b'],
  },
  {
    setting: 'signIn.require',
    read: ({ signIn }) => signIn.require,
    accepted: [
      ['groups=staff,admins', { groups: ['staff', 'admins'] }],
      ['email_domain=example.com', { email_domain: ['example.com'] }],
      [
        'groups = staff , admins ; email_domain=example.com;',
        { groups: ['staff', 'admins'], email_domain: ['example.com'] },
      ],
      ['https://x.example/roles=a=b', { 'https://x.example/roles': ['a=b'] }],
    ],
    refused: [
      'groups',
      'groups=',
      'groups=,',
      '=staff',
      'groups=a;groups=b',
      'email_domain=@example.com',
      'email_domain=*.example.com',
      'email_domain=user@example.com',
      '__proto__=x',
    ],
  },
  {
    setting: 'user.claims',
    read: ({ user }) => user.claims,
    accepted: [['groups,realm_access.roles', ['groups', 'realm_access.roles']]],
    refused: ['a b', 'groups,groups', '__proto__'],
  },
  {
    setting: 'login.errors',
    read: ({ login }) => login.errors,
    accepted: [['redirect', 'redirect']],
    refused: ['json'],
  },
  {
    setting: 'logout.clearSiteData',
    read: ({ logout }) => logout.clearSiteData,
    accepted: [
      ['none', ['none']],
      ['storage', ['storage']],
      ['cache, executionContexts', ['cache', 'executionContexts']],
    ],
    refused: ['*', '"cache"', 'storage,everything', 'Cookies'],
  },
  {
    setting: 'session.idle',
    read: ({ session }) => session.idle,
    accepted: [
      ['1s', 1],
      ['8h', 28_800],
    ],
    refused: ['0s', '500ms', '30', 'forever'],
  },
  {
    setting: 'session.absolute',
    read: ({ session }) => session.absolute,
    accepted: [
      ['30d', 2_592_000],
      ['2s', 2],
    ],
    refused: ['31d', '721h', '0s'],
  },
  {
    setting: 'session.persistent',
    read: ({ session }) => session.persistent,
    accepted: [
      ['true', true],
      ['false', false],
    ],
    refused: ['yes', '1', 'TRUE', 'on'],
  },
  {
    setting: 'session.sameSite',
    read: ({ session }) => session.sameSite,
    accepted: [['lax', 'lax']],
    refused: ['none', 'None', 'Strict'],
  },
  {
    setting: 'session.maxPerUser',
    read: ({ session }) => session.maxPerUser,
    accepted: [
      ['1', 1],
      ['1000', 1000],
    ],
    refused: ['0', '1001', '-1', '1.5', 'many'],
  },
  {
    setting: 'session.beyondMax',
    read: ({ session }) => session.beyondMax,
    accepted: [
      ['evict-oldest', 'evict-oldest'],
      ['deny', 'deny'],
    ],
    refused: ['evict', 'true'],
  },
  {
    setting: 'session.memoryMax',
    read: ({ session }) => session.memoryMax,
    accepted: [['50', 50]],
    refused: ['0', '-1', '1k'],
  },
  {
    // On loopback it may be true: rules.test.ts.
    setting: 'plainCookies',
    read: ({ plainCookies }) => plainCookies,
    accepted: [['false', false]],
    refused: ['yes', '1', 'off'],
  },
  {
    setting: 'csrf',
    read: ({ csrf }) => csrf,
    accepted: [['header', 'header']],
    refused: ['off', 'none', 'token'],
  },
  {
    setting: 'trustedProxies',
    read: ({ trustedProxies }) => trustedProxies,
    accepted: [
      ['10.0.0.0/8, 2001:DB8::/32', ['10.0.0.0/8', '2001:db8::/32']],
      ['192.0.2.1,::1', ['192.0.2.1/32', '::1/128']],
      [
        'private',
        [
          '127.0.0.0/8',
          '::1/128',
          '10.0.0.0/8',
          '172.16.0.0/12',
          '192.168.0.0/16',
          '169.254.0.0/16',
          'fc00::/7',
          'fe80::/10',
        ],
      ],
    ],
    refused: [
      '10.0.0.0/33',
      '::/129',
      '10.0.0',
      'proxy.internal',
      '10.0.0.0/-1',
      '10.0.0.0/',
      'Private',
      '::ffff:10.0.0.0/104',
      'fe80::1%eth0',
      '10.0.0.0/8,10.0.0.0/8',
    ],
  },
  {
    setting: 'redis.url',
    read: ({ redis }) => redis.url?.current,
    accepted: [
      [
        'redis://127.0.0.1:6379',
        {
          kind: 'standalone',
          tls: false,
          hosts: [{ host: '127.0.0.1', port: 6379 }],
          login: undefined,
          database: 0,
        },
      ],
      [
        'rediss://user:p%40ss@Redis.example.com/3',
        {
          kind: 'standalone',
          tls: true,
          hosts: [{ host: 'redis.example.com', port: 6379 }],
          login: { username: 'user', password: 'p@ss' },
          database: 3,
        },
      ],
      [
        'redis://:pa:ss=+@[::1]/',
        {
          kind: 'standalone',
          tls: false,
          hosts: [{ host: '::1', port: 6379 }],
          login: { username: undefined, password: 'pa:ss=+' },
          database: 0,
        },
      ],
      [
        'redis+sentinel://one,two:26380/shop-master',
        {
          kind: 'sentinel',
          tls: false,
          hosts: [
            { host: 'one', port: 26379 },
            { host: 'two', port: 26380 },
          ],
          login: undefined,
          masterName: 'shop-master',
          database: 0,
          sentinelLogin: undefined,
        },
      ],
      [
        'rediss+sentinel://u:p@[::1]:26380/m/2?sentinelUsername=watch&sentinelPassword=p%26w',
        {
          kind: 'sentinel',
          tls: true,
          hosts: [{ host: '::1', port: 26380 }],
          login: { username: 'u', password: 'p' },
          masterName: 'm',
          database: 2,
          sentinelLogin: { username: 'watch', password: 'p&w' },
        },
      ],
      [
        'redis+cluster://one:7000,two',
        {
          kind: 'cluster',
          tls: false,
          hosts: [
            { host: 'one', port: 7000 },
            { host: 'two', port: 6379 },
          ],
          login: undefined,
        },
      ],
    ],
    refused: [
      '127.0.0.1:6379',
      'http://redis',
      'redis://',
      'redis://host?family=6',
      'redis://host/x',
      'redis://host#x',
      'redis://host/0 ',
      'redis://one,two',
      'redis://host:0',
      'redis://host:65536',
      'redis://::1',
      'redis://user@host',
      'redis://user:@host',
      'redis://user:pa/ss@host',
      'redis://user:p%ss@host',
      'redis://user:p%0Ass@host',
      'redis://user:pass@',
      'redis+sentinel://one,two',
      'redis+sentinel://one,,two/m',
      'redis+sentinel://one/m/x',
      'redis+sentinel://one/m/0/1',
      'redis+sentinel://one/m?password=x',
      'redis+sentinel://one/m?sentinelUsername=x',
      'redis+sentinel://one/m?sentinelPassword=',
      'redis+sentinel://one/m?sentinelPassword=x&sentinelPassword=y',
      'redis+cluster://one:7000/1',
      'redis+cluster://one:7000?x=y',
      'redis+proxy://one',
    ],
  },
  {
    setting: 'redis.namespace',
    read: ({ redis }) => redis.namespace,
    accepted: [['shop_1', 'shop_1']],
    refused: ['a:b', '{a}', 'a b', 'x'.repeat(33)],
  },
  {
    setting: 'redis.commandTimeout',
    read: ({ redis }) => redis.commandTimeout,
    accepted: [
      ['100ms', 100],
      ['1s', 1000],
    ],
    refused: ['0ms', '1m'],
  },
  {
    setting: 'redis.connectTimeout',
    read: ({ redis }) => redis.connectTimeout,
    accepted: [['2s', 2000]],
    refused: ['0s', '1m'],
  },
  {
    setting: 'redis.confirm',
    read: ({ redis }) => redis.confirm,
    accepted: [
      ['0', 0],
      ['5', 5],
    ],
    refused: ['-1', '6', '1.5', 'yes'],
  },
  {
    setting: 'spa.upstream',
    read: ({ spa }) => spa,
    accepted: [['http://127.0.0.1:5173/', { kind: 'upstream', origin: 'http://127.0.0.1:5173' }]],
    refused: ['http://127.0.0.1:5173/app', 'ws://127.0.0.1:5173', '127.0.0.1:5173'],
  },
  {
    setting: 'spa.directory',
    read: ({ spa }) => spa?.kind,
    accepted: [['/', 'directory']],
    refused: ['/no/such/directory', '\0'],
  },
  {
    setting: 'upstreamTimeout.connect',
    read: ({ routes }) => routes[0]?.timeout.connect,
    accepted: [['250ms', 250]],
    refused: ['0s', '6m'],
  },
  {
    setting: 'upstreamTimeout.firstByte',
    read: ({ routes }) => routes[0]?.timeout.firstByte,
    accepted: [['2m', 120_000]],
    refused: ['0s', '2h'],
  },
  {
    setting: 'upstreamTimeout.idle',
    read: ({ routes }) => routes[0]?.timeout.idle,
    accepted: [['0s', 0]],
    refused: ['0', '2d'],
  },
  {
    setting: 'upstreamTimeout.total',
    read: ({ routes }) => routes[0]?.timeout.total,
    accepted: [
      ['0s', 0],
      ['90s', 90_000],
    ],
    refused: ['0', '2d'],
  },
  {
    setting: 'upstreamLimits.connections',
    read: ({ upstreamLimits }) => upstreamLimits.connections,
    accepted: [['1', 1]],
    refused: ['0', '65536', 'many'],
  },
  {
    setting: 'upstreamLimits.queue',
    read: ({ upstreamLimits }) => upstreamLimits.queue,
    accepted: [['0', 0]],
    refused: ['-1', '65536'],
  },
  {
    setting: 'webSockets.origin',
    read: ({ routes }) => routes[0]?.webSockets.origin,
    accepted: [['upstream', 'upstream']],
    refused: ['public', 'https://app.example.com'],
  },
  {
    setting: 'webSockets.idle',
    read: ({ routes }) => routes[0]?.webSockets.idle,
    accepted: [
      ['0s', 0],
      ['5m', 300_000],
    ],
    refused: ['0', '31d'],
  },
  {
    setting: 'webSockets.lifetime',
    read: ({ routes }) => routes[0]?.webSockets.lifetime,
    accepted: [['12h', 43_200_000]],
    refused: ['0', '31d'],
  },
  {
    setting: 'webSockets.perSession',
    read: ({ webSockets }) => webSockets.perSession,
    accepted: [['1', 1]],
    refused: ['0', '10001', '1.5'],
  },
  {
    setting: 'limits.urlBytes',
    read: ({ limits }) => limits.urlBytes,
    accepted: [['2KiB', 2048]],
    refused: ['255B', '65KiB'],
  },
  {
    setting: 'limits.headerBytes',
    read: ({ limits }) => limits.headerBytes,
    accepted: [['64KiB', 65_536]],
    refused: ['1KiB', '1MiB'],
  },
  {
    setting: 'limits.stalledClient',
    read: ({ limits }) => limits.stalledClient,
    accepted: [['2m', 120_000]],
    refused: ['0s', '2h'],
  },
  {
    setting: 'limits.connectionsPerClient',
    read: ({ limits }) => limits.connectionsPerClient,
    accepted: [['100', 100]],
    refused: ['0', '65536'],
  },
  {
    setting: 'limits.requestsPerClient',
    read: ({ limits }) => limits.requestsPerClient,
    accepted: [['600', 600]],
    refused: ['0', '1.5'],
  },
  {
    setting: 'limits.bodyBytes',
    read: ({ routes }) => routes[0]?.bodyBytesMax,
    accepted: [
      ['500B', 500],
      ['64KiB', 65_536],
      ['2GiB', 2 ** 31],
    ],
    refused: ['0B', '10', '10MB', '10 MiB', '-1B', '1025GiB', '1.5MiB'],
  },
  {
    setting: 'upstreamStripPrefix',
    read: ({ routes }) => routes[0]?.stripPrefix,
    accepted: [['true', true]],
    refused: ['strip'],
  },
  {
    setting: 'drain.delay',
    read: ({ drain }) => drain.delay,
    accepted: [['0s', 0]],
    refused: ['2m', '25s'],
  },
  {
    setting: 'drain.deadline',
    read: ({ drain }) => drain.deadline,
    accepted: [['10s', 10]],
    refused: ['0s', '1h'],
  },
  {
    setting: 'logging.level',
    read: ({ logging }) => logging.level,
    accepted: [['debug', 'debug']],
    refused: ['trace', 'INFO', 'off'],
  },
  {
    setting: 'dev.providerListen',
    read: ({ dev }) => dev.providerListen,
    accepted: [['127.0.0.1:3199', { host: '127.0.0.1', port: 3199 }]],
    refused: ['3199', 'off', '127.0.0.1:70000'],
  },
  {
    setting: 'dev.users',
    read: ({ dev }) => dev.users,
    accepted: [['/etc/people.yaml', '/etc/people.yaml']],
    refused: ['people\0.yaml'],
  },
]

describe.each(ROWS)('$setting', ({ setting, read, accepted, refused }) => {
  const variable = variableOf(setting)

  test.each(accepted)('takes %j', (text, meaning) => {
    expect(read(load({ [variable]: text }))).toEqual(meaning)
  })

  test.each(refused)('refuses %j', (text) => {
    const problems = problemsOf(() => load({ [variable]: text }))
    expect(problems.length).toBeGreaterThan(0)
    for (const problem of problems) {
      expect(problem.setting.startsWith(setting), problem.setting).toBe(true)
      expect(problem).toMatchObject({
        source: 'environment',
        variable,
        rule: expect.stringMatching(/^(must|may) /),
      })
    }
  })
})

test('every setting with a variable has a row here, but for those whose rows need files', () => {
  const withVariable = SETTINGS.flatMap(({ path, variable }) =>
    variable === undefined ? [] : [path],
  )
  const withFiles = /^(spa\.csp|upstreamTls\..+|(redis\.)?tls\..+)$/
  expect(withVariable.filter((path) => !withFiles.test(path)).sort()).toEqual(
    ROWS.map(({ setting }) => setting).sort(),
  )
})

test.each([
  ['default', 'default'],
  ['strict', 'strict'],
  ["default-src 'self'; img-src *", "default-src 'self'; img-src *"],
])('spa.csp takes %j', (text, meaning) => {
  expect(load({ COATCHECK_SPA: '/', COATCHECK_SPA_CSP: text }).spa).toMatchObject({ csp: meaning })
})

test.each([
  'stric',
  'off',
  "default-src 'self'\r\nSet-Cookie: a=b",
  'Default-src x',
  "default-src 'sélf'",
])('spa.csp refuses %j', (text) => {
  const problems = problemsOf(() => load({ COATCHECK_SPA: '/', COATCHECK_SPA_CSP: text }))
  expect(problems.map(({ setting }) => setting)).toEqual(['spa.csp'])
})
