/**
 * What an open WebSocket costs: resident memory of a real gateway process, with 0, 500, 1,000 … of them, after a
 * garbage collection each. Each is idle, and stands for two connections of the gateway: the page's and the API's.
 *
 *   npm run bench -- web-sockets [--sockets 1000] [--redis]
 *
 * Budget: 30 KiB for a WebSocket at most, 15 KiB wanted.
 */

import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { parseArgs } from 'node:util'
import { startWebSocketApi } from '../test/support/web-sockets.ts'
import { measureOpenThings, pageFields } from './support/resident.ts'

const { values } = parseArgs({
  options: {
    sockets: { type: 'string', default: '1000' },
    redis: { type: 'boolean', default: false },
  },
})

const api = await startWebSocketApi()
await measureOpenThings({
  name: 'WebSockets',
  count: Number(values.sockets),
  isInRedis: values.redis,
  upstreamUrl: api.url,
  gauge: 'coatcheck_web_sockets{route="/api"}',
  /** As a browser opens it; what comes is read and dropped. */
  open: (port, cookie) => {
    const socket = connect(port, '127.0.0.1')
    socket.resume()
    socket.write(
      [
        'GET /api/live HTTP/1.1',
        ...pageFields(port, cookie),
        `Origin: http://localhost:${port}`,
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
        'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits',
        '',
        '',
      ].join('\r\n'),
    )
    return socket
  },
})
await api.close()
