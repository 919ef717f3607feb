/**
 * What an open event stream costs: resident memory of a real gateway process, with 0, 500, 1,000 … streams, after a
 * garbage collection each (asked for over the inspector, which is there in all of them alike).
 *
 *   npm run bench -- event-streams [--streams 1000] [--redis]
 *
 * Budget: 30 KiB for a stream at most, 15 KiB wanted.
 */

import { connect } from 'node:net'
import { parseArgs } from 'node:util'
import { measureOpenThings, pageFields } from './support/resident.ts'

const { values } = parseArgs({
  options: {
    streams: { type: 'string', default: '1000' },
    redis: { type: 'boolean', default: false },
  },
})

await measureOpenThings({
  name: 'streams',
  count: Number(values.streams),
  isInRedis: values.redis,
  upstreamUrl: 'http://127.0.0.1:9',
  gauge: 'coatcheck_event_streams',
  /** As a browser asks for it; what comes is read and dropped. */
  open: (port, cookie) => {
    const socket = connect(port, '127.0.0.1')
    socket.resume()
    socket.write(
      [
        'GET /bff/events HTTP/1.1',
        ...pageFields(port, cookie),
        'Accept: text/event-stream',
        `Referer: http://localhost:${port}/orders`,
        'Sec-Fetch-Site: same-origin',
        'Sec-Fetch-Mode: cors',
        'Sec-Fetch-Dest: empty',
        '',
        '',
      ].join('\r\n'),
    )
    return socket
  },
})
