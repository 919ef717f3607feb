/** WebSocket handshakes: sent as plain HTTP/1.1, and once the upstream agrees both sockets become one pipe. */

import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { GatewayError } from '../../errors.ts'

export interface UpgradeRequest {
  /** Fixed by configuration. */
  readonly origin: string
  /** Path and query as they go on the request line. */
  readonly path: string
  /** Flat name-value list, with `host`, without hop-by-hop fields: those of the handshake are added here. */
  readonly headers: readonly string[]
  readonly socket: Duplex
  /** What the client has sent behind its handshake. */
  readonly head: Buffer
  /** From the start to the head of the upstream's answer, and again for the body of a refusal. */
  readonly answerMs: number
  /** What of the upstream's head the client gets, without hop-by-hop fields. */
  readonly responseHeaders: (status: number, rawHeaders: readonly string[]) => readonly string[]
}

export type UpgradeResult =
  /** The sockets are joined; `ended` resolves when both are closed. */
  | { readonly kind: 'open'; readonly ended: Promise<void> }
  /** The upstream's own refusal was passed on whole. */
  | { readonly kind: 'refused'; readonly status: number }
  | { readonly kind: 'client_left' }

/** A peer on a machine that is gone says nothing: probes end its connection. */
const TCP_PROBE_AFTER_MS = 60_000
/** How long a side that was told the end may take to close: last frames reach it, and it cannot stay half open. */
const WIND_DOWN_MS = 2_000
const RESPONSE_HEADER_BYTES_MAX = 65_536

/**
 * Throws `upstream_unreachable` or `upstream_timeout` only while nothing has been written to the client.
 * Frames pass untouched, so that compression and masking stay between the two ends.
 */
export const spliceUpgrade = async (upgrade: UpgradeRequest): Promise<UpgradeResult> => {
  const { socket } = upgrade
  // An unheard 'error' ends the process; what follows from it is done on 'close'.
  socket.on('error', () => undefined)
  if (socket.destroyed) return { kind: 'client_left' }
  const answer = await shakeHands(upgrade)
  switch (answer.kind) {
    case 'client_left':
      return answer
    case 'refused':
      return passRefusal(upgrade, answer.response)
    case 'agreed': {
      const { status, rawHeaders, upstream, upstreamHead } = answer
      const headers = [...upgrade.responseHeaders(status, rawHeaders), ...HANDSHAKE]
      socket.write(headText('101 Switching Protocols', headers), 'latin1')
      if (upstreamHead.length > 0) socket.write(upstreamHead)
      if (upgrade.head.length > 0) upstream.write(upgrade.head)
      return { kind: 'open', ended: join(socket, upstream) }
    }
  }
}

/** Generated anew on either side: `Connection` and `Upgrade` are hop-by-hop (RFC 9110 §7.8). */
const HANDSHAKE = ['connection', 'Upgrade', 'upgrade', 'websocket']

type Answer =
  | {
      readonly kind: 'agreed'
      readonly status: number
      readonly rawHeaders: readonly string[]
      readonly upstream: Duplex
      readonly upstreamHead: Buffer
    }
  | { readonly kind: 'refused'; readonly response: IncomingMessage }
  | { readonly kind: 'client_left' }

const shakeHands = (upgrade: UpgradeRequest): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const { origin, path, headers, socket, answerMs } = upgrade
    const { protocol, hostname, port } = new URL(origin)
    const host = hostname.replace(/^\[(.*)\]$/, '$1')
    const send = protocol === 'https:' ? httpsRequest : httpRequest
    const outgoing = send({
      host,
      port,
      path,
      method: 'GET',
      headers: [...headers, ...HANDSHAKE],
      // A connection of its own, which the handshake takes over; and the TLS name is the configured host's,
      // whatever `Host` says.
      agent: false,
      ...(protocol === 'https:' ? { servername: isIP(host) === 0 ? host : '' } : {}),
      setHost: false,
      maxHeaderSize: RESPONSE_HEADER_BYTES_MAX,
    })

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
    const timer = setTimeout(
      () => fail(new GatewayError('upstream_timeout', { reason: 'handshake' })),
      answerMs,
    )
    socket.once('close', onClientGone)

    outgoing.on('error', (cause) =>
      fail(new GatewayError('upstream_unreachable', { reason: 'handshake_failed', cause })),
    )
    outgoing.once('response', (response) => settle(() => resolve({ kind: 'refused', response })))
    outgoing.once('upgrade', (response, upstream, upstreamHead) => {
      upstream.on('error', () => undefined)
      if (response.headers.upgrade?.toLowerCase() !== 'websocket') {
        upstream.destroy()
        fail(new GatewayError('upstream_unreachable', { reason: 'other_protocol' }))
        return
      }
      const { statusCode: status = 101, rawHeaders } = response
      settle(() => resolve({ kind: 'agreed', status, rawHeaders, upstream, upstreamHead }))
    })
    outgoing.end()
  })

/** Status, headers and body as they are; the body ends with the connection unless its length is known. */
const passRefusal = (
  { socket, responseHeaders, answerMs }: UpgradeRequest,
  response: IncomingMessage,
): Promise<UpgradeResult> =>
  new Promise((resolve) => {
    const { statusCode: status = 502, statusMessage = '', rawHeaders } = response
    const headers = [...responseHeaders(status, rawHeaders), 'connection', 'close']
    const timer = setTimeout(() => socket.destroy(), answerMs)
    // Without 'end' before it the answer is cut short, and ending the connection in order would hide that.
    response.on('error', () => socket.destroy())
    socket.once('close', () => {
      clearTimeout(timer)
      response.destroy()
      resolve({ kind: 'refused', status })
    })
    socket.write(headText(`${status} ${statusMessage}`, headers), 'latin1')
    response.pipe(socket)
    socket.once('finish', () => setTimeout(() => socket.destroy(), WIND_DOWN_MS).unref())
    // What the client still sends is dropped, and its own end is noticed.
    socket.resume()
  })

/** Joins the two until either ends; then both end, each after what it was already given. */
const join = (client: Duplex, upstream: Duplex): Promise<void> =>
  new Promise((resolve) => {
    const sides = [client, upstream]
    let timer: NodeJS.Timeout | undefined
    const windDown = () => {
      if (sides.every((side) => side.destroyed)) {
        clearTimeout(timer)
        resolve()
        return
      }
      if (timer !== undefined) return
      client.unpipe(upstream)
      upstream.unpipe(client)
      for (const side of sides) side.end()
      // Reading on is what notices that the other side has closed as well.
      for (const side of sides) side.resume()
      timer = setTimeout(() => {
        for (const side of sides) side.destroy()
      }, WIND_DOWN_MS)
    }
    for (const side of sides) {
      if (side instanceof Socket) {
        side.setTimeout(0)
        side.setNoDelay(true)
        side.setKeepAlive(true, TCP_PROBE_AFTER_MS)
      }
      side.once('end', windDown)
      side.once('close', windDown)
    }
    client.pipe(upstream)
    upstream.pipe(client)
    if (sides.some((side) => side.destroyed)) windDown()
  })

const headText = (statusLine: string, headers: readonly string[]): string => {
  let text = `HTTP/1.1 ${statusLine}\r\n`
  for (let i = 0; i + 1 < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`
  return `${text}\r\n`
}
