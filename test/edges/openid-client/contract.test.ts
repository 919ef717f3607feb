/** The provider contract, on the fake provider and on a real one. */

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { DEVELOPMENT_RESOURCE, startDevelopmentProvider } from '../../../src/dev/provider.ts'
import { type ProviderRig, providerContract } from '../../contract/provider.contract.ts'
import { createBrowser } from '../../support/browser.ts'
import { FakeProvider } from '../../support/fake-provider.ts'
import { adapterFor } from './adapter.ts'

const SCOPE = 'openid profile email offline_access'

/** The application that the browser comes back to: every address of it answers with an empty page. */
const startApplication = async () => {
  const server = createServer((_req, res) => res.end()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const origin = `http://localhost:${(server.address() as AddressInfo).port}`
  return {
    redirectUri: `${origin}/bff/callback`,
    postLogoutRedirectUri: `${origin}/bff/logged-out`,
    close: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

/** Fills in the sign-in page if there is one. */
const authorizeAs =
  (login: string, redirectUri: string): ProviderRig['authorize'] =>
  async (url) => {
    const browser = createBrowser()
    const page = await browser.navigate(url.href)
    const answer = page.url.startsWith(redirectUri)
      ? page
      : await browser.submitForm(page, { login, password: login })
    return new URL(answer.url).searchParams
  }

providerContract('fake provider', async () => {
  const application = await startApplication()
  const fake = await FakeProvider.start()
  const provider = adapterFor(fake.issuer)
  return {
    ...application,
    provider,
    issuer: fake.issuer,
    scope: SCOPE,
    authorize: authorizeAs('alice', application.redirectUri),
    breakTokenEndpoint: (how) => {
      if (how === 'works') fake.answerHonestly()
      else fake.script('token', how === 'resets' ? { fate: 'reset' } : { status: 503 })
    },
    close: async () => {
      await provider.close()
      await fake.close()
      application.close()
    },
  }
})

const realProvider =
  (refreshRotation: 'strict' | 'none', method: 'client_secret_basic' | 'client_secret_post') =>
  async (): Promise<ProviderRig> => {
    const { redirectUri, postLogoutRedirectUri, ...application } = await startApplication()
    const clientSecret = 'a secret: with + % and =, long enough'
    const real = await startDevelopmentProvider({
      refreshRotation,
      resource: DEVELOPMENT_RESOURCE,
      clients: [
        {
          clientId: 'coatcheck',
          clientSecret,
          redirectUris: [redirectUri],
          postLogoutRedirectUris: [postLogoutRedirectUri],
          tokenEndpointAuthMethod: method,
        },
      ],
    })
    const provider = adapterFor(real.issuer, {
      clientSecret: { current: clientSecret },
      clientAuthentication: method,
    })
    return {
      provider,
      issuer: real.issuer,
      redirectUri,
      postLogoutRedirectUri,
      scope: SCOPE,
      authorize: authorizeAs('alice', redirectUri),
      breakTokenEndpoint: (how) =>
        real.setFault(how === 'works' ? 'continue' : how === 'resets' ? 'reset' : { status: 503 }),
      close: async () => {
        await provider.close()
        await real.close()
        application.close()
      },
    }
  }

providerContract('oidc-provider, rotating', realProvider('strict', 'client_secret_basic'))
providerContract('oidc-provider, not rotating', realProvider('none', 'client_secret_post'))
