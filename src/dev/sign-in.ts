/** Signing in at the development provider: when it is asked for, and the form that answers. */

import type { IncomingMessage } from 'node:http'
import type { interactionPolicy, KoaContextWithOIDC, Provider } from 'oidc-provider'
import { messagePage, type Page, signInPage } from './provider-pages.ts'

export interface DevelopmentUser {
  readonly login: string
  readonly password: string
  readonly claims: { readonly sub: string } & Readonly<Record<string, unknown>>
}

export const PASSWORD_ACR = 'urn:coatcheck:password'
/** Asked for with `acr_values`: the sign-in form then wants a one-time code too. */
export const ONE_TIME_CODE_ACR = 'urn:coatcheck:one-time-code'
export const ONE_TIME_CODE = '123456'

type Middleware = Parameters<Provider['use']>[0]
type Context = Parameters<Middleware>[0]

/** A page of another origin cannot send it: the provider grants no preflight. */
const TEST_USER_HEADER = 'coatcheck-test-user'

const FORM_BYTES_MAX = 8 * 1024

/** oidc-provider's own policy, and a sign-in anew when `acr_values` wants more than the session has. */
export const signInPolicy = (policy: typeof interactionPolicy): interactionPolicy.DefaultPolicy => {
  const prompts = policy.base()
  prompts
    .get('login')
    ?.checks.add(
      new policy.Check('acr_values', 'a one-time code is required', 'login_required', (ctx) =>
        wantsOneTimeCode(ctx.oidc.params?.acr_values) && ctx.oidc.acr !== ONE_TIME_CODE_ACR
          ? policy.Check.REQUEST_PROMPT
          : policy.Check.NO_NEED_TO_PROMPT,
      ),
    )
  return prompts
}

/** Answers `/interaction/…`; the cookie of the interaction, bound to its path, is what admits a form. */
export const signInRoutes =
  (provider: Provider, users: readonly DevelopmentUser[]): Middleware =>
  async (ctx, next) => {
    if (!ctx.path.startsWith('/interaction/')) return next()
    if (ctx.method !== 'GET' && ctx.method !== 'POST') {
      ctx.set('Allow', 'GET, POST')
      return sendPage(ctx, 405, messagePage('Sign in', 'Open the sign-in page with a browser.'))
    }
    const interaction = await provider.interactionDetails(ctx.req, ctx.res).catch(() => undefined)
    if (interaction === undefined || ctx.path !== `/interaction/${interaction.uid}`) {
      const message =
        'This sign-in is over, or it was begun in another browser. Go back to the application and sign in again.'
      return sendPage(ctx, 400, messagePage('Sign in', message))
    }

    const finish = async (result: Parameters<Provider['interactionResult']>[2]) => {
      ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result))
      ctx.status = 303
    }
    // `prompt=consent`: the clients are first-party, so that there is nothing to ask.
    if (interaction.prompt.name === 'consent') return finish({ consent: {} })

    const testUser = ctx.get(TEST_USER_HEADER)
    if (testUser !== '' && isFromThisMachine(ctx.req.socket.remoteAddress)) {
      const user = users.find((one) => one.login === testUser)
      if (user !== undefined) return finish({ login: loginOf(user, interaction.params.acr_values) })
      const known = users.map((one) => one.login).join(', ')
      const message = `There is no user "${testUser}" here. There are: ${known}.`
      return sendPage(ctx, 404, messagePage('Sign in', message))
    }

    const askForOneTimeCode = wantsOneTimeCode(interaction.params.acr_values)
    const show = (status: number, login: string | undefined, problem?: string) =>
      sendPage(
        ctx,
        status,
        signInPage({
          action: ctx.path,
          clientId: String(interaction.params.client_id),
          redirectOrigin: new URL(String(interaction.params.redirect_uri)).origin,
          login,
          askForOneTimeCode,
          problem,
          hints: users.map((user) => `${user.login} / ${user.password}`),
          oneTimeCodeHint: ONE_TIME_CODE,
        }),
      )
    if (ctx.method === 'GET') {
      const hint = interaction.params.login_hint
      return show(200, typeof hint === 'string' ? hint : undefined)
    }

    const form = await readForm(ctx.req)
    if (form.has('cancel')) {
      return finish({ error: 'access_denied', error_description: 'the sign-in was cancelled' })
    }
    const login = form.get('login') ?? ''
    const user = users.find((one) => one.login === login && one.password === form.get('password'))
    if (user === undefined) return show(422, login, 'This login and password do not match.')
    if (askForOneTimeCode && form.get('one_time_code') !== ONE_TIME_CODE) {
      return show(422, login, 'The one-time code is not right.')
    }
    return finish({ login: loginOf(user, interaction.params.acr_values) })
  }

const loginOf = (user: DevelopmentUser, acrValues: unknown) =>
  wantsOneTimeCode(acrValues)
    ? { accountId: user.claims.sub, acr: ONE_TIME_CODE_ACR, amr: ['pwd', 'otp'] }
    : { accountId: user.claims.sub, acr: PASSWORD_ACR, amr: ['pwd'] }

/** A test user needs no password (src/testing); the passwords here are on the page, so this opens nothing to anybody. */
export const isFromThisMachine = (address: string | undefined): boolean =>
  address !== undefined && (address === '::1' || /^(?:::ffff:)?127(?:\.\d{1,3}){3}$/.test(address))

export const sendPage = (ctx: Context | KoaContextWithOIDC, status: number, page: Page): void => {
  ctx.status = status
  ctx.type = 'html'
  ctx.set('Content-Security-Policy', page.contentSecurityPolicy)
  ctx.set('Cache-Control', 'no-store')
  ctx.set('Referrer-Policy', 'no-referrer')
  ctx.set('X-Content-Type-Options', 'nosniff')
  ctx.body = page.html
}

const wantsOneTimeCode = (acrValues: unknown): boolean =>
  typeof acrValues === 'string' && acrValues.split(' ').includes(ONE_TIME_CODE_ACR)

/** An oversized form reads as an empty one, and so as a wrong password. */
const readForm = async (req: IncomingMessage): Promise<URLSearchParams> => {
  const chunks: Buffer[] = []
  let sizeBytes = 0
  for await (const chunk of req) {
    sizeBytes += chunk.length
    if (sizeBytes <= FORM_BYTES_MAX) chunks.push(chunk)
  }
  return new URLSearchParams(sizeBytes <= FORM_BYTES_MAX ? Buffer.concat(chunks).toString() : '')
}
