/** The ticket: what the session cookie seals. Id and key are random; the store knows the id's digest only. */

import { createHash, randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { type Clock, type Seconds, toMs } from '../time.ts'
import type { CurrentKeyRing } from './key-ring.ts'
import { type Opened, readSealHeader, type Sealer, sealIdentity } from './seal.ts'
import type { SessionDigest } from './session.ts'
import type { CookieForm } from './session-cookie.ts'

export interface Ticket {
  readonly digest: SessionDigest
  /** 256 random bits, base64url. */
  readonly id: string
  /** 256 random bits: together with the ring they open the record. */
  readonly key: Buffer
  /** Random id of the process whose memory holds the session; undefined where a shared store does. */
  readonly home: string | undefined
  /** Of the cookie that was made to carry it: in another form it counts for nothing. */
  readonly form: CookieForm
}

export const SECRET_BYTES = 32
const BASE64URL_256_BITS = /^[\w-]{43}$/

export const digestOf = (id: string): SessionDigest =>
  createHash('sha256').update(Buffer.from(id, 'base64url')).digest('base64url') as SessionDigest

export const newTicket = (home: string | undefined): Ticket => {
  const id = randomBytes(SECRET_BYTES).toString('base64url')
  return { digest: digestOf(id), id, key: randomBytes(SECRET_BYTES), home, form: 'prefixed' }
}

/** Undefined unless both are 256 bits in base64url: the shape is right before any store is asked. */
export const ticketFrom = (
  id: unknown,
  key: unknown,
  home?: unknown,
  form: CookieForm = 'prefixed',
): Ticket | undefined =>
  typeof id === 'string' &&
  typeof key === 'string' &&
  BASE64URL_256_BITS.test(id) &&
  BASE64URL_256_BITS.test(key) &&
  (home === undefined || typeof home === 'string')
    ? { digest: digestOf(id), id, key: ownBytes(key), home, form }
    : undefined

/** Not a slice of the runtime's pool, all 64 KiB of which a remembered key would keep (measured: 45 KB a session). */
const ownBytes = (key: string): Buffer => {
  const bytes = Buffer.alloc(SECRET_BYTES)
  bytes.write(key, 'base64url')
  return bytes
}

/** Shown in logs: correlates events of one session and opens nothing. */
export const sessionLabel = (digest: SessionDigest): string => digest.slice(0, 12)

export type TicketReading =
  | { readonly kind: 'opened'; readonly ticket: Ticket; readonly ringId: number }
  | { readonly kind: 'foreign' }
  | { readonly kind: 'forged' }

export interface TicketSealer {
  seal(ticket: Ticket): Promise<string>
  open(seal: string): Promise<TicketReading>
  /** The ticket of a seal that verified before; undefined says nothing. */
  remembered(seal: string): Opened<Ticket> | undefined
}

/** A longer cookie is refused unopened. */
export const TICKET_BYTES_MAX = 1024
/** Opening a seal costs some 350 µs and a lookup 1 µs, so seals that verified once are remembered, up to this. */
const REMEMBERED_BYTES_MAX = 32 * 1024 * 1024
/** Measured by what an entry holds: the seal's own text, and about 400 bytes of ticket and bookkeeping. */
const ENTRY_OVERHEAD_BYTES = 400

export const createTicketSealer = (
  sealer: Sealer,
  ring: CurrentKeyRing,
  absolute: Seconds,
  clock: Clock,
): TicketSealer => {
  const remembered = new LRUCache<string, Opened<Ticket>>({
    maxSize: REMEMBERED_BYTES_MAX,
    sizeCalculation: (_, identity) => identity.length + ENTRY_OVERHEAD_BYTES,
    perf: { now: () => clock.monotonicMs() },
    // Otherwise a timer of 1 ms is set for the first look of each millisecond.
    ttlResolution: 0,
  })
  const recall = (identity: string): Opened<Ticket> | undefined => {
    const known = remembered.get(identity)
    // A secret that left the ring takes the tickets it sealed with it, remembered or not.
    return known !== undefined && ring.current.find(known.ringId) !== undefined ? known : undefined
  }
  return {
    remembered: (seal) => (seal.length > TICKET_BYTES_MAX ? undefined : recall(sealIdentity(seal))),

    seal: (ticket) =>
      sealer.seal(
        'ticket',
        {
          id: ticket.id,
          key: ticket.key.toString('base64url'),
          ...(ticket.home === undefined ? {} : { home: ticket.home }),
          ...(ticket.form === 'plain' ? { form: 'plain' } : {}),
        },
        absolute,
      ),

    open: async (seal) => {
      if (seal.length > TICKET_BYTES_MAX) return { kind: 'foreign' }
      const identity = sealIdentity(seal)
      const known = recall(identity)
      if (known !== undefined) return { kind: 'opened', ticket: known.value, ringId: known.ringId }
      const reading = await sealer.unseal('ticket', seal, absolute, (value) =>
        ticketFrom(value.id, value.key, value.home, value.form === 'plain' ? 'plain' : 'prefixed'),
      )
      if (reading.kind !== 'opened') return reading
      const expiresAt = readSealHeader(seal)?.expiresAt ?? 0
      const ttl = Math.min(expiresAt - clock.now(), toMs(absolute))
      if (ttl > 0) remembered.set(identity, reading.opened, { ttl: Math.ceil(ttl) })
      return { kind: 'opened', ticket: reading.opened.value, ringId: reading.opened.ringId }
    },
  }
}
