/** How this confidential client proves itself at the provider: exactly one method per request (RFC 6749 §2.3). */

import type { ClientAuth } from 'openid-client'

export type ClientAuthenticationMethod = 'client_secret_basic' | 'client_secret_post'

/** The secret is read at every call: it may be replaced while the gateway runs. */
export const clientAuthentication =
  (
    method: ClientAuthenticationMethod,
    clientId: string,
    clientSecret: { readonly current: string },
  ): ClientAuth =>
  (_server, _client, body, headers) => {
    if (method === 'client_secret_post') {
      body.set('client_id', clientId)
      body.set('client_secret', clientSecret.current)
      return
    }
    // §2.3.1 encodes both as HTML forms do, which leaves `-._` alone. The library's own function escapes them too,
    // and providers that forget to decode then know no client `my-app`.
    const credentials = `${formEncoded(clientId)}:${formEncoded(clientSecret.current)}`
    headers.set('authorization', `Basic ${Buffer.from(credentials).toString('base64')}`)
  }

const formEncoded = (value: string): string =>
  new URLSearchParams([['', value]]).toString().slice(1)
