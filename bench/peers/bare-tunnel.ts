/**
 * The reference for WebSockets: bytes from one socket to another, from the handshake on, and nothing looked at.
 *
 *   node bench/peers/bare-tunnel.ts PORT UPSTREAM_PORT
 */

import { connect, createServer } from 'node:net'

const [port = '', upstreamPort = ''] = process.argv.slice(2)

createServer({ noDelay: true }, (client) => {
  const upstream = connect({ port: Number(upstreamPort), host: '127.0.0.1', noDelay: true })
  for (const [one, other] of [
    [client, upstream],
    [upstream, client],
  ] as const)
    one
      .pipe(other)
      // `close` follows each error and ends both sides.
      .on('error', () => {})
      .on('close', () => one.destroy())
}).listen(Number(port), '127.0.0.1')
