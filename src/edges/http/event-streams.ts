/**
 * `GET /bff/events`: what becomes of the session, told to its page as it happens (EventSource). On Node's own answer,
 * because thousands of streams stay open at once.
 */

import type { ServerResponse } from 'node:http'
import { GatewayError } from '../../errors.ts'
import type { Admission } from '../../guard/admission.ts'
import { type SessionReader, sessionRefusal } from '../../guard/by-session.ts'
import type { SameOriginGuard } from '../../guard/same-origin.ts'
import type { Lifetimes, SessionDigest } from '../../session/session.ts'
import { createSessionNews, type SessionNews } from '../../session/session-news.ts'
import type { SessionWatch } from '../../session/session-watch.ts'
import type { TicketRenewal } from '../../session/ticket-renewal.ts'
import type { OpenSession } from '../../session/vault.ts'
import { type Clock, milliseconds } from '../../time.ts'
import type { Exchange } from './exchange.ts'
import { carriesBody, type Envelope, reply, send } from './reply.ts'

export interface EventStreams {
  /** Opens one for the request; throws what a request hears that gets none. */
  serve(exchange: Exchange): Promise<void>
  /** Ends all of them, and every later one at once: their pages come back, to another replica. */
  end(): void
}

export interface EventStreamDependencies {
  readonly guard: SameOriginGuard
  readonly admission: Admission
  readonly sessions: SessionReader
  readonly renewal: TicketRenewal
  readonly watch: SessionWatch
  readonly clock: Clock
  /** Between 0 and 1. */
  readonly random: () => number
  readonly lifetimes: Lifetimes
  /** What every answer carries. */
  readonly outside: Envelope
  /** Told how many are open, whenever that changes. */
  readonly observeStreams: (open: number) => void
}

/** A page and the one that takes its place. Six of one origin would freeze its tabs over HTTP/1.1 (observed). */
const STREAMS_PER_SESSION_MAX = 2
/** Proxies cut connections that are silent for 30 s. */
const HEARTBEAT_MS = 15_000
const HEARTBEAT_TURN_MS = 1_000
/** A page that does not read what it is sent gets no more of it. */
const UNSENT_BYTES_MAX = 16 * 1024
/** Pages come back spread over some seconds; over more of them when all those of a replica come at once. */
const RETRY_MIN_MS = 1_000
const RETRY_SPREAD_MS = 2_000
const RETRY_SPREAD_AT_END_MS = 4_000

/** The event id with which the page of a superseded stream comes back, to whichever replica: it says it all. */
const SUPERSEDED_ID = 'superseded'
/** Ours, and those of releases to come. */
const EVENT_ID = /^[\w.-]{1,64}$/

interface Stream {
  readonly res: ServerResponse
  readonly siblings: Set<Stream>
  stopWatching: () => void
  heartbeatAtMs: number
  /** Something was unsent at the last heartbeat. */
  wasBehind: boolean
}

export const createEventStreams = (dependencies: EventStreamDependencies): EventStreams => {
  const { guard, admission, sessions, renewal, watch, clock, random, lifetimes } = dependencies
  const { observeStreams, outside } = dependencies
  const streams = new Set<Stream>()
  const bySession = new Map<SessionDigest, Set<Stream>>()
  let isBeating = false
  let isEnding = false

  /** Read as soon as its line is, without an event behind it (HTML Standard §9.2.6). */
  const retryLine = (spreadMs: number) =>
    `retry: ${Math.round(RETRY_MIN_MS + random() * spreadMs)}\n`

  const liveSession = async (exchange: Exchange) => {
    const reading = await sessions.read(sessions.presented(exchange.header('cookie')))
    if (reading.kind === 'live') return reading
    if (reading.kind === 'absent' && reading.why === 'forged')
      admission.countFailure(exchange.client)
    throw sessionRefusal(reading)
  }

  /** Makes room first: the oldest one is told that another page has taken its place. */
  const siblingsOf = (digest: SessionDigest): Set<Stream> => {
    const siblings = bySession.get(digest) ?? new Set()
    bySession.set(digest, siblings)
    for (const oldest of siblings) {
      if (siblings.size < STREAMS_PER_SESSION_MAX) break
      finish(oldest, `id: ${SUPERSEDED_ID}\nevent: superseded\ndata: {}\n\n`)
    }
    return siblings
  }

  const open = (res: ServerResponse, session: OpenSession): void => {
    const { digest } = session.ticket
    const stream: Stream = {
      res,
      siblings: siblingsOf(digest),
      stopWatching: () => {},
      heartbeatAtMs: clock.monotonicMs() + HEARTBEAT_MS * (0.5 + random() / 2),
      wasBehind: false,
    }
    streams.add(stream)
    stream.siblings.add(stream)
    observeStreams(streams.size)
    res.once('close', () => {
      leave(stream)
      if (stream.siblings.size === 0 && bySession.get(digest) === stream.siblings)
        bySession.delete(digest)
      streams.delete(stream)
      observeStreams(streams.size)
    })

    const newsOf = createSessionNews(lifetimes, clock)
    write(stream, retryLine(RETRY_SPREAD_MS))
    for (const news of newsOf(session)) write(stream, asText(news))
    stream.stopWatching = watch.watch(session, {
      lives: (read) => {
        for (const news of newsOf(read)) write(stream, asText(news))
      },
      ended: (reason) => finish(stream, asText({ event: 'ended', reason })),
    })
    if (!isBeating) void beat()
  }

  /** One loop for all of them; a timer for each would cost more than the stream's own bookkeeping. */
  const beat = async (): Promise<void> => {
    isBeating = true
    while (streams.size > 0) {
      await clock.sleep(milliseconds(HEARTBEAT_TURN_MS))
      const now = clock.monotonicMs()
      for (const stream of streams) {
        if (now < stream.heartbeatAtMs) continue
        stream.heartbeatAtMs = now + HEARTBEAT_MS
        const isBehind = stream.res.writableLength > 0
        if (isBehind && stream.wasBehind) stream.res.destroy()
        else if (!stream.res.writableEnded) write(stream, ':\n\n')
        stream.wasBehind = isBehind
      }
    }
    isBeating = false
  }

  return {
    serve: async (exchange) => {
      const { req, res, requestId, method } = exchange
      if (method !== 'GET') throw new GatewayError('method_not_allowed', { allow: ['GET'] })
      guard(exchange, 'event-stream')
      admission.admit(exchange.client)
      const lastEventId = exchange.header('last-event-id') ?? ''
      if (lastEventId !== '' && !EVENT_ID.test(lastEventId))
        throw new GatewayError('request_invalid', { reason: 'event_id_malformed' })
      // Nobody would read it, and an unread body hides that the client has left.
      if (carriesBody(req)) throw new GatewayError('request_invalid', { reason: 'body_unexpected' })
      // An EventSource comes back after whatever answer but this one (HTML Standard, server-sent events).
      if (lastEventId === SUPERSEDED_ID) return send(req, res, reply(204, []), outside(requestId))
      const reading = await liveSession(exchange)
      const setCookies = await renewal.renewed(reading.open, reading.ringId)
      if (isEnding || res.destroyed) {
        // A connection that breaks off is what makes an EventSource come back; an answer would stop it.
        res.destroy()
        return
      }
      const { status, headers } = reply(200, HEADERS, '', setCookies)
      res.writeHead(status, [...headers, ...outside(requestId)].flat())
      open(res, reading.open)
    },

    end: () => {
      isEnding = true
      for (const stream of streams) finish(stream, retryLine(RETRY_SPREAD_AT_END_MS))
    },
  }
}

/** nginx would collect the events in a buffer. */
const HEADERS = [
  ['content-type', 'text/event-stream'],
  ['x-accel-buffering', 'no'],
] as const

const asText = ({ event, ...data }: SessionNews): string =>
  `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`

const write = ({ res }: Stream, text: string): void => {
  if (res.destroyed || res.writableEnded) return
  if (res.writableLength > UNSENT_BYTES_MAX) res.destroy()
  else res.write(text)
}

const finish = (stream: Stream, lastWords: string): void => {
  leave(stream)
  write(stream, lastWords)
  stream.res.end()
}

const leave = (stream: Stream): void => {
  stream.stopWatching()
  stream.siblings.delete(stream)
}
