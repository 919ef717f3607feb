/** WebSocket handshakes with an upstream: sent as plain HTTP/1.1, and answered with its 101 or its own refusal. */

import { createHash } from 'node:crypto'
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { Duplex } from 'node:stream'
import { GatewayError } from '../../errors.ts'
import type { HandshakeAnswer, ShakeHands, UpstreamHandshake } from '../../upstream/web-socket.ts'
import { splice } from './splice.ts'
import { tlsFault, type UpstreamTls } from './tls.ts'

/** Made here, because one made in a handshake would keep all of it for as long as its socket is open. */
const unheard = (): void => {}
/** How long a client that was told why may take to close. */
const WIND_DOWN_MS = 2_000
const RESPONSE_HEADER_BYTES_MAX = 65_536

/** Generated anew on either side: `Connection` and `Upgrade` are hop-by-hop (RFC 9110 §7.8). */
const HANDSHAKE = ['connection', 'Upgrade', 'upgrade', 'websocket']

export const createShakeHands =
  (tls: UpstreamTls): ShakeHands =>
  (handshake) => {
    const { socket } = handshake
    // An unheard 'error' ends the process; what follows from it is done on 'close'.
    socket.on('error', unheard)
    if (socket.destroyed) return Promise.resolve({ kind: 'client_left' })
    return new Promise((resolve, reject) => {
      const outgoing = send(handshake, tls)

      const settle = (outcome: () => void) => {
        clearTimeout(timer)
        socket.off('close', onClientGone)
        outcome()
      }
      const fail = (error: GatewayError) =>
        settle(() => {
          outgoing.destroy()
          reject(error)
        })
      const onClientGone = () =>
        settle(() => {
          outgoing.destroy()
          resolve({ kind: 'client_left' })
        })
      const limit = (durationMs: number, reason: string) =>
        setTimeout(() => fail(new GatewayError('upstream_timeout', { reason })), durationMs)
      let timer = limit(handshake.connectMs, 'connect')
      socket.once('close', onClientGone)

      outgoing.once('socket', (upstream) => {
        upstream.once(isTls(handshake) ? 'secureConnect' : 'connect', () => {
          clearTimeout(timer)
          timer = limit(handshake.answerMs, 'handshake')
        })
      })
      outgoing.on('error', (cause: NodeJS.ErrnoException) => {
        const reason = tlsFault(cause.code ?? '') ?? 'handshake_failed'
        fail(new GatewayError('upstream_unreachable', { reason, cause }))
      })
      outgoing.once('response', (response) => {
        const reason = refusalFault(response)
        if (reason === undefined) settle(() => resolve(refusedBy(response, handshake)))
        else fail(new GatewayError('upstream_unreachable', { reason }))
      })
      outgoing.once('upgrade', (response, upstream, upstreamHead) => {
        upstream.on('error', unheard)
        const reason = agreementFault(response, handshake)
        if (reason === undefined)
          return settle(() => resolve(agreedBy(response, handshake, upstream, upstreamHead)))
        upstream.destroy()
        fail(new GatewayError('upstream_unreachable', { reason }))
      })
      outgoing.end()
    })
  }

const isTls = ({ origin }: UpstreamHandshake) => origin.startsWith('https:')

const send = (handshake: UpstreamHandshake, tls: UpstreamTls): ClientRequest => {
  const { origin, path, headers } = handshake
  const { hostname, port } = new URL(origin)
  const host = hostname.replace(/^\[(.*)\]$/, '$1')
  const request = isTls(handshake) ? httpsRequest : httpRequest
  return request({
    host,
    port,
    path,
    method: 'GET',
    headers: [...headers, ...HANDSHAKE],
    // A connection of its own, which the handshake takes over; and the TLS name is the configured host's,
    // whatever `Host` says.
    agent: false,
    ...(isTls(handshake) ? { servername: tls.serverName(host), secureContext: tls.context() } : {}),
    setHost: false,
    maxHeaderSize: RESPONSE_HEADER_BYTES_MAX,
  })
}

/** What a client of the upstream must fail on (RFC 6455 §4.1): behind it are no frames, or not ours. */
const agreementFault = (
  { headers }: IncomingMessage,
  handshake: UpstreamHandshake,
): string | undefined => {
  if (headers.upgrade?.toLowerCase() !== 'websocket') return 'other_protocol'
  const key = handshake.headers.find(
    (_value, index, words) =>
      index % 2 === 1 && words[index - 1]?.toLowerCase() === 'sec-websocket-key',
  )
  return headers['sec-websocket-accept'] === acceptOf(key ?? '') ? undefined : 'accept_mismatch'
}

/** RFC 6455 §4.2.2. */
const acceptOf = (key: string): string =>
  createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')

/** Its framing is not passed on, so only what Node takes off may be around the body. */
const refusalFault = ({ statusCode = 0, headers }: IncomingMessage): string | undefined => {
  // Agreed to something, without saying to what (RFC 9110 §15.2.2).
  if (statusCode === 101) return 'other_protocol'
  return /^(?:chunked)?$/i.test(headers['transfer-encoding'] ?? '') ? undefined : 'transfer_coding'
}

const agreedBy = (
  { statusCode: status = 101, rawHeaders }: IncomingMessage,
  { socket, head }: UpstreamHandshake,
  upstream: Duplex,
  upstreamHead: Buffer,
): HandshakeAnswer => ({
  kind: 'agreed',
  status,
  rawHeaders,
  open: (headers, observer) => {
    socket.write(headText('101 Switching Protocols', [...headers, ...HANDSHAKE]), 'latin1')
    return splice({ socket, head }, { socket: upstream, head: upstreamHead }, observer)
  },
  abandon: () => upstream.destroy(),
})

const refusedBy = (response: IncomingMessage, handshake: UpstreamHandshake): HandshakeAnswer => {
  const { statusCode: status = 502, rawHeaders } = response
  response.on('error', unheard)
  return {
    kind: 'refused',
    status,
    rawHeaders,
    pass: (headers) => passRefusal(response, headers, handshake),
    abandon: () => response.destroy(),
  }
}

/** The body ends with the connection unless its length is known. */
const passRefusal = (
  response: IncomingMessage,
  headers: readonly string[],
  { socket, answerMs }: UpstreamHandshake,
): Promise<void> =>
  new Promise((resolve) => {
    if (socket.closed) return resolve()
    const { statusCode, statusMessage = '' } = response
    const timer = setTimeout(() => socket.destroy(), answerMs)
    // Without 'end' before it the answer is cut short, and ending the connection in order would hide that.
    response.on('error', () => socket.destroy())
    socket.once('close', () => {
      clearTimeout(timer)
      response.destroy()
      resolve()
    })
    socket.write(
      headText(`${statusCode} ${statusMessage}`, [...headers, 'connection', 'close']),
      'latin1',
    )
    response.pipe(socket)
    socket.once('finish', () => setTimeout(() => socket.destroy(), WIND_DOWN_MS).unref())
    // What the client still sends is dropped, and its own end is noticed.
    socket.resume()
  })

const headText = (statusLine: string, headers: readonly string[]): string => {
  let text = `HTTP/1.1 ${statusLine}\r\n`
  for (let i = 0; i + 1 < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`
  return `${text}\r\n`
}
