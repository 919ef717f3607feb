/** One of everything that outlives a release, written by the code as it is now: what a frozen sample is made of. */

import { createKeyNames, storeNamespace } from '../../src/edges/redis/keys.ts'
import { writeRecord } from '../../src/edges/redis/stored-form.ts'
import { sealTransaction, type Transaction } from '../../src/login/transaction.ts'
import { createLogout } from '../../src/logout/logout.ts'
import type { Provider } from '../../src/oidc/provider.ts'
import { createKeyRing } from '../../src/session/key-ring.ts'
import { createRecordSealer, type SessionMetadata } from '../../src/session/record.ts'
import { createSealer } from '../../src/session/seal.ts'
import type { Session } from '../../src/session/session.ts'
import { cookieNames, createCookieForms } from '../../src/session/session-cookie.ts'
import { EVERYONE, providerSessionIndex, subjectIndex } from '../../src/session/session-index.ts'
import type { OneTimeStore, StoredRecord } from '../../src/session/session-store.ts'
import { createTicketSealer, newTicket } from '../../src/session/ticket.ts'
import type { OpenSession, Vault } from '../../src/session/vault.ts'
import { epochMs, seconds, systemClock } from '../../src/time.ts'

/** Texts and base64 of bytes: it is kept as JSON. */
export interface FormatSample {
  /** The seals are good for hours from then: whoever opens them puts the clock there. */
  readonly madeAt: number
  readonly ticket: { readonly id: string; readonly key: string; readonly seal: string }
  /** The whole Redis value. */
  readonly record: string
  readonly transaction: string
  readonly logout: string
  /** The ID token that waits for the redirect of a sign-out, and the name it waits under. */
  readonly hint: { readonly name: string; readonly sealed: string }
  readonly keys: Readonly<Record<string, string>>
}

export const SAMPLE_SECRET = 'the-ring-secret-of-the-frozen-samples-0001'
export const SAMPLE_NAMES = cookieNames('https://app.example.com', false)
export const SAMPLE_COOKIES = createCookieForms('https://app.example.com', false, undefined)
const HOUR = seconds(3_600)

const encoded = (part: object) => Buffer.from(JSON.stringify(part)).toString('base64url')
const tokenFor = (aud: string) =>
  [
    encoded({ alg: 'RS256', typ: 'JWT', kid: 'key-1' }),
    encoded({ iss: 'https://login.example.com', sub: '248289761001', aud, exp: 1_790_000_300 }),
    Buffer.from(`signature over ${aud}, of any bytes: \u00e9\u0000\n`).toString('base64url'),
  ].join('.')

export const SAMPLE_SESSION: Session = {
  generation: 3,
  issuer: 'https://login.example.com',
  subject: '248289761001',
  providerSessionId: '08a5019c-17e1-4977-8f42-65a12843ea02',
  claims: { name: 'Ælfgifu “Alice” \u{1f9e5}', email_verified: true, groups: ['staff', 'admins'] },
  acr: 'urn:example:high',
  amr: ['pwd', 'otp'],
  authTime: 1_790_000_000,
  signInStartedAt: epochMs(1_789_999_990_123),
  createdAt: epochMs(1_790_000_001_456),
  absoluteExpiresAt: epochMs(1_790_028_801_456),
  tokens: {
    accessToken: tokenFor('https://api.example.com'),
    accessTokenExpiresAt: epochMs(1_790_000_300_000),
    accessTokenLifetime: seconds(300),
    scope: 'openid profile email offline_access',
    refreshToken: 'an.opaque/refresh+token of any text',
    refreshTokenExpiresAt: epochMs(1_790_086_400_000),
    idToken: tokenFor('shop-web'),
  },
}

export const SAMPLE_METADATA: SessionMetadata = {
  issuer: SAMPLE_SESSION.issuer,
  subject: SAMPLE_SESSION.subject,
  providerSessionId: SAMPLE_SESSION.providerSessionId,
  createdAt: SAMPLE_SESSION.createdAt,
  signInStartedAt: SAMPLE_SESSION.signInStartedAt,
  device: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
  address: '2001:db8::7',
}

export const SAMPLE_TRANSACTION: Transaction = {
  state: `0n${'s'.repeat(43)}`,
  codeVerifier: 'v'.repeat(43),
  nonce: 'n'.repeat(43),
  returnTo: '/orders?page=2#row-7',
  issuer: SAMPLE_SESSION.issuer,
  asked: { acrValues: 'urn:example:high', maxAgeSeconds: 300, consent: false, silent: true },
  signInStartedAt: epochMs(1_789_999_990_123),
  former: { id: 'i'.repeat(43), key: 'k'.repeat(43) },
}

export const SAMPLE_LANDING = '/goodbye?from=orders'

export const makeSample = async (): Promise<FormatSample> => {
  const ring = { current: createKeyRing([SAMPLE_SECRET]) }
  const sealer = createSealer(ring)
  const records = createRecordSealer(ring)
  const ticket = newTicket(undefined)
  const { digest, key } = ticket
  const record = records.seal(digest, key, SAMPLE_SESSION, SAMPLE_METADATA)
  const names = createKeyNames(storeNamespace(SAMPLE_SESSION.issuer, 'shop-web'))
  const { issuer, subject, providerSessionId = '' } = SAMPLE_SESSION
  const { logout, hint } = await signOut({ ticket, record, session: SAMPLE_SESSION })
  return {
    madeAt: systemClock.now(),
    ticket: {
      id: ticket.id,
      key: key.toString('base64url'),
      seal: await createTicketSealer(sealer, ring, HOUR, systemClock).seal(ticket),
    },
    record: writeRecord(record).toString('base64'),
    transaction: await sealTransaction(sealer, SAMPLE_TRANSACTION),
    logout,
    hint,
    keys: {
      ...Object.fromEntries(
        Object.entries(names.session(digest)).map(([of, name]) => [
          of,
          name.replace(digest, '<digest>'),
        ]),
      ),
      user: names.index(subjectIndex(issuer, subject)),
      providerSession: names.index(providerSessionIndex(issuer, providerSessionId)),
      mark: names.mark(EVERYONE),
      claim: names.claim('<name>'),
      value: names.value('<name>'),
    },
  }

  async function signOut(open: {
    readonly ticket: typeof ticket
    readonly record: StoredRecord
    readonly session: Session
  }) {
    const kept: FormatSample['hint'][] = []
    const flow = createLogout({
      provider: { knownFacts: () => ({ endSession: true }) } as unknown as Provider,
      vault: {
        read: async () => ({ kind: 'absent' }),
        end: async () => true,
      } as unknown as Vault,
      once: {
        put: async (name, sealed) =>
          void kept.push({ name, sealed: Buffer.from(sealed).toString('base64') }),
      } as Partial<OneTimeStore> as OneTimeStore,
      records,
      sealer,
      cookies: SAMPLE_COOKIES,
      revoke: () => {},
      settings: { prefix: '/bff', postLogoutRedirectUri: '', sessionSameSite: 'Strict' },
    })
    const redirect = await flow.end(
      { ...open, lastActivityAt: undefined } as OpenSession,
      SAMPLE_LANDING,
    )
    const cookie =
      redirect.setCookies.find((line) => line.startsWith(`${SAMPLE_NAMES.logout}=`)) ?? ''
    const [hint] = kept
    if (hint === undefined) throw new Error('no ID token was kept')
    return { logout: cookie.slice(SAMPLE_NAMES.logout.length + 1).split(';', 1)[0] ?? '', hint }
  }
}

// `node test/support/format-sample.ts > test/support/fixtures/format-<version>.json` freezes one.
if (import.meta.main) process.stdout.write(`${JSON.stringify(await makeSample(), null, 2)}\n`)
