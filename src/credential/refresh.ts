/**
 * The refresh machine: one refresh per session at a time, across tabs and replicas. A rotated refresh token sent
 * twice makes the provider revoke the whole grant (RFC 9700 §4.14.2), so every caller either performs the refresh
 * under the lease or adopts the result of whoever did.
 *
 *   single flight in this process → place at the provider → lease and attempt in the store → provider → write
 */

import { randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { GatewayError } from '../errors.ts'
import type { Emit, EndReason, RefreshOutcome } from '../events.ts'
import type { Provider, RefreshAnswer } from '../oidc/provider.ts'
import type { Revoke } from '../oidc/revocation.ts'
import {
  type Claims,
  canRefresh,
  type Session,
  type SessionDigest,
  type TokenSet,
} from '../session/session.ts'
import { sessionLabel } from '../session/ticket.ts'
import type { OpenSession, Vault } from '../session/vault.ts'
import { type Clock, type EpochMs, type Milliseconds, milliseconds, type Seconds } from '../time.ts'
import { DUE_BEFORE_MAX_MS, freshnessAt } from './freshness.ts'
import type { ProviderSlots, Slot } from './provider-slots.ts'
import {
  type LeaseRequest,
  RENEW_PAUSE_MAX_MS,
  REWRITE_PAUSE_MAX_MS,
  type RefreshLease,
} from './refresh-lease.ts'

/** Every limit follows from the token endpoint's timeout, so none can contradict another. */
export interface RefreshTimes {
  readonly lease: Milliseconds
  readonly renewEvery: Milliseconds
  /** An attempt without a result is given up after this; below the 10 s of reuse some providers tolerate. */
  readonly giveUp: Milliseconds
  /** A request waits for a refresh no longer; the refresh goes on without it. */
  readonly requestWait: Milliseconds
  /** As long as a token can be due: a flight that waits longer for a place at the provider ends. */
  readonly place: Milliseconds
  /** A flight that waits for another replica ends after this. */
  readonly flight: Milliseconds
  /** A result that the store did not take is offered to it again for this long. */
  readonly rewrite: Milliseconds
}

export const refreshTimes = (tokenTimeout: Seconds): RefreshTimes => {
  const timeout = tokenTimeout * 1000
  const lease = timeout * 0.4
  const giveUp = timeout + lease
  return {
    lease: milliseconds(lease),
    renewEvery: milliseconds(Math.min(lease / 4, RENEW_PAUSE_MAX_MS)),
    giveUp: milliseconds(giveUp),
    requestWait: milliseconds(Math.min(2_500, timeout / 2)),
    place: milliseconds(DUE_BEFORE_MAX_MS),
    flight: milliseconds(giveUp + timeout + lease),
    rewrite: milliseconds(600_000),
  }
}

/** How a flight ended. It never rejects. */
export type Landing =
  | { readonly outcome: 'refreshed' | 'superseded'; readonly open: OpenSession }
  | { readonly outcome: 'rejected'; readonly reason: EndReason | 'absent' }
  | {
      readonly outcome: 'unavailable'
      /** `breaker`: the provider, and nobody asked it for this session. */
      readonly what: 'provider' | 'breaker' | 'store'
      readonly retryAfter: Milliseconds
    }

type Unavailable = Landing & { readonly outcome: 'unavailable' }

/** What a request gets: a session whose access token may be sent, or the news that it is over. */
export type Freshened =
  | { readonly kind: 'usable'; readonly open: OpenSession }
  | { readonly kind: 'ended'; readonly reason: EndReason | 'absent' }

export interface RefreshMachine {
  /**
   * Fresh tokens pass at once; due ones pass while a refresh runs behind them; only expired ones wait. Throws
   * `provider_unavailable` or `store_unavailable` once the token has really expired and none could be had.
   */
  freshen(open: OpenSession): Promise<Freshened>
  /** `freshen` would give it back as it is. */
  isFresh(open: OpenSession): boolean
  /** The access token is over by this clock: who refuses it now says nothing about the session. */
  hasRunOut(open: OpenSession): boolean
  /** Whether `force` could bring anything newer; asked before an answer is given up for it. */
  mayForce(open: OpenSession): boolean
  /**
   * After an upstream's 401 `invalid_token`: one refresh, if the session still has the generation that was sent and
   * was not forced lately. Undefined where nothing newer can be had; throws as `freshen` does where that is an
   * outage and the token has run out on its way.
   */
  force(open: OpenSession): Promise<OpenSession | undefined>
  /**
   * Begins no further call to the provider for whoever waits for a place; resolves when no refresh is in flight and
   * every result is written, or after the time.
   */
  settled(limit: Milliseconds): Promise<void>
}

/** The instant by which this access token is fresh, due or expired; `now` is the clock's. */
export type JudgedAt = (tokens: TokenSet, now: EpochMs) => EpochMs

export interface RefreshDependencies {
  readonly vault: Vault
  readonly lease: RefreshLease
  readonly provider: Pick<Provider, 'refresh'>
  readonly revoke: Revoke
  readonly slots: ProviderSlots
  readonly clock: Clock
  /** By which instant access tokens are judged, where it is not the clock's. */
  readonly judgedAt?: JudgedAt | undefined
  readonly times: RefreshTimes
  readonly emit: Emit
  readonly notice: (notice: string, detail: string) => void
  readonly random: () => number
  /** Claims of the session after a refresh whose answer had an ID token. */
  readonly claimsFrom: (idTokenClaims: Claims) => Claims
}

const FORCE_EVERY_MS = 60_000
/** As sizes, which grow with what is there: `max` would set all places up at the start, for 20 ms. */
const REMEMBERED = { maxSize: 100_000, sizeCalculation: () => 1 }
const POLL_FIRST_MS = 50
const POLL_MAX_MS = 500
/** A wrong client secret is not mended in a second; the next call after this finds out. */
const MISCONFIGURED_PAUSE_MS = 10_000
const STORE_RETRY_MS = 1_000

const isNewer = (one: OpenSession, other: OpenSession): boolean =>
  one.session.generation > other.session.generation

const causeOf = (cause: unknown): string | undefined =>
  cause instanceof Error ? cause.message : undefined

type Refreshable = OpenSession & {
  readonly session: Session & { readonly tokens: { readonly refreshToken: string } }
}

export const createRefreshMachine = (dependencies: RefreshDependencies): RefreshMachine => {
  const { vault, lease, provider, revoke, slots, clock, times, emit, notice, random, claimsFrom } =
    dependencies
  const judgedAt = dependencies.judgedAt ?? ((_tokens, now) => now)
  const freshnessOf = (tokens: TokenSet) => freshnessAt(tokens, judgedAt(tokens, clock.now()))

  const flights = new Map<SessionDigest, Promise<Landing>>()
  /** Results the provider gave and the store has not taken yet: this process serves from them. */
  const unwritten = new Map<SessionDigest, OpenSession>()
  const writers = new Set<Promise<void>>()
  /** Sessions whose refresh failed: nobody here asks again before. */
  const pauses = new LRUCache<SessionDigest, { untilMs: number; landing: Unavailable }>(REMEMBERED)
  /** When a token that looked good was last refreshed all the same, and the generation that was sent then. */
  const forced = new LRUCache<SessionDigest, { atMs: number; generation: number }>(REMEMBERED)

  const jitter = (ms: number) => milliseconds(ms * (0.5 + random() / 2))

  // ── one flight ──────────────────────────────────────────────────────────────────────────────────────────

  const fly = (open: Refreshable): Promise<Landing> => {
    const { digest } = open.ticket
    const running = flights.get(digest)
    if (running !== undefined) return running
    const startedMs = clock.monotonicMs()
    const flight = journey(open, startedMs)
      .catch((thrown): Landing => storeFailure(thrown))
      .then((landing) => {
        flights.delete(digest)
        if (landing.outcome !== 'unavailable') pauses.delete(digest)
        // The breaker is asked anew each time: once the provider answers, nobody stays away any longer.
        else if (landing.what !== 'breaker')
          pauses.set(digest, { untilMs: clock.monotonicMs() + landing.retryAfter, landing })
        return landing
      })
    flights.set(digest, flight)
    return flight
  }

  const storeFailure = (thrown: unknown): Unavailable => {
    if (!(thrown instanceof GatewayError) || thrown.code !== 'store_unavailable')
      notice('refresh_fault', thrown instanceof Error ? thrown.name : 'unknown')
    return { outcome: 'unavailable', what: 'store', retryAfter: milliseconds(STORE_RETRY_MS) }
  }

  /** Takes the lease or follows whoever has it, until there is a result or it was followed for too long. */
  const journey = async (first: Refreshable, startedMs: number): Promise<Landing> => {
    let poll = POLL_FIRST_MS
    let followingSinceMs: number | undefined
    for (;;) {
      const entry = await slots.enter(times.place, first.session.tokens.accessTokenExpiresAt)
      if (entry.kind === 'closed') {
        const { retryAfter } = entry
        return entry.why === 'breaker_open'
          ? { outcome: 'unavailable', what: 'breaker', retryAfter }
          : report(first, startedMs, entry.why, {
              outcome: 'unavailable',
              what: 'provider',
              retryAfter,
            })
      }
      const request: LeaseRequest = {
        owner: randomBytes(16).toString('base64url'),
        attemptId: randomBytes(16).toString('base64url'),
        generation: first.session.generation,
        leaseTime: times.lease,
        giveUpTime: times.giveUp,
      }
      try {
        // Before the token is spent: a sign-in that a logout overtook may have come through where its own look failed.
        const overtaken = await vault.endOvertaken(first)
        if (overtaken !== undefined) return { outcome: 'rejected', reason: overtaken }
        const answer = await lease.take(first.ticket.digest, request).catch((thrown: unknown) => {
          // A command that timed out may still be applied; an attempt nobody works on must keep nobody away.
          void lease.release(first.ticket.digest, request.owner).catch(() => {})
          throw thrown
        })
        switch (answer.kind) {
          case 'taken':
            return await spend(first, request, answer.abandonedAttempt, entry.slot, startedMs)
          case 'unavailable':
            return { outcome: 'unavailable', what: 'provider', retryAfter: answer.retryAfter }
          case 'moved': {
            const landing = await adopt(first)
            // The store was behind, and has caught up since: it is as if nobody had been asked.
            if (landing.outcome === 'superseded' && !isNewer(landing.open, first)) break
            return landing
          }
          case 'ended':
          case 'absent':
            return await adopt(first)
          case 'busy':
            break
        }
      } finally {
        entry.slot.release()
      }
      followingSinceMs ??= clock.monotonicMs()
      if (clock.monotonicMs() - followingSinceMs >= times.flight)
        return {
          outcome: 'unavailable',
          what: 'provider',
          retryAfter: milliseconds(STORE_RETRY_MS),
        }
      await clock.sleep(jitter(poll))
      poll = Math.min(poll * 1.5, POLL_MAX_MS)
      const seen = await vault.read(first.ticket)
      if (seen.kind !== 'live') return over(seen)
      if (isNewer(seen.open, first)) return { outcome: 'superseded', open: seen.open }
    }
  }

  /**
   * Somebody else moved or ended the session: what is in the store now is the result. A store that is behind
   * (a result of ours waits to be written to it, or a failover undid it) is a store that is not available.
   */
  const adopt = async (former: OpenSession): Promise<Landing> => {
    const seen = await vault.read(former.ticket)
    if (seen.kind !== 'live') return over(seen)
    return seen.open.session.generation < former.session.generation
      ? { outcome: 'unavailable', what: 'store', retryAfter: milliseconds(STORE_RETRY_MS) }
      : { outcome: 'superseded', open: seen.open }
  }

  const over = (seen: { kind: 'ended'; reason: EndReason } | { kind: 'absent' }): Landing => ({
    outcome: 'rejected',
    reason: seen.kind === 'ended' ? seen.reason : 'absent',
  })

  /** Under the lease: spends the refresh token once and brings the result home. */
  const spend = async (
    open: Refreshable,
    request: LeaseRequest,
    abandonedAttempt: boolean,
    slot: Slot,
    startedMs: number,
  ): Promise<Landing> => {
    const { digest } = open.ticket
    const { owner } = request
    const answer = await whileRenewing(digest, request, () =>
      provider.refresh({
        issuer: open.session.issuer,
        subject: open.session.subject,
        tokens: open.session.tokens,
        authTime: open.session.authTime,
      }),
    )
    switch (answer.kind) {
      case 'tokens':
        slot.succeeded()
        return bringHome(open, answer, request.attemptId, startedMs)

      case 'rejected':
      case 'identity_changed': {
        slot.succeeded()
        const seen = await vault.read(open.ticket)
        if (seen.kind !== 'live') return over(seen)
        if (seen.open.session.generation !== open.session.generation)
          return { outcome: 'superseded', open: seen.open }
        const reason: EndReason =
          answer.kind === 'identity_changed'
            ? 'identity_changed'
            : abandonedAttempt
              ? 'refresh_lost'
              : 'refresh_rejected'
        await vault.end(open, reason)
        return report(open, startedMs, reason, { outcome: 'rejected', reason })
      }

      case 'misconfigured': {
        slot.succeeded()
        // The adapter's causes are fit for a log: they carry the provider's explanation, and no token.
        notice('provider_misconfigured', causeOf(answer.cause) ?? answer.reason)
        const retryAfter = milliseconds(MISCONFIGURED_PAUSE_MS)
        await letGo(digest, owner, retryAfter, 'no')
        return report(open, startedMs, answer.reason, {
          outcome: 'unavailable',
          what: 'provider',
          retryAfter,
        })
      }

      case 'unavailable': {
        const asked = answer.retryAfter
        const retryAfter = slot.failed(asked === undefined ? undefined : milliseconds(asked * 1000))
        await letGo(digest, owner, retryAfter, answer.spent)
        return report(open, startedMs, answer.reason, {
          outcome: 'unavailable',
          what: 'provider',
          retryAfter,
        })
      }
    }
  }

  /** The lease is renewed while the call is in flight; a renewal that fails never aborts the call. */
  const whileRenewing = async (
    digest: SessionDigest,
    request: LeaseRequest,
    call: () => Promise<RefreshAnswer>,
  ): Promise<RefreshAnswer> => {
    const done = new AbortController()
    const giveUpAtMs = clock.monotonicMs() + times.giveUp
    const renewing = (async () => {
      for (;;) {
        await clock.sleep(times.renewEvery, done.signal)
        if (done.signal.aborted) return
        const giveUpTime = milliseconds(giveUpAtMs - clock.monotonicMs())
        await lease.renew(digest, { ...request, giveUpTime }).catch(() => false)
      }
    })()
    try {
      return await call()
    } finally {
      done.abort()
      await renewing
    }
  }

  const letGo = (
    digest: SessionDigest,
    owner: string,
    retryAfter: Milliseconds,
    spent: 'no' | 'unknown',
  ): Promise<void> =>
    lease.releaseUnavailable(digest, owner, retryAfter, spent).catch(() => {
      // The lease lapses by itself; the next caller learns from the provider what this one could not leave.
    })

  /**
   * The provider has answered, so the old refresh token is spent and this result exists nowhere else: it is kept
   * here, served from here, and offered to the store until it is taken, lease or no lease.
   */
  const bringHome = async (
    open: Refreshable,
    answer: RefreshAnswer & { kind: 'tokens' },
    attemptId: string,
    startedMs: number,
  ): Promise<Landing> => {
    const next: Session = {
      ...open.session,
      generation: open.session.generation + 1,
      tokens: answer.tokens,
      claims:
        answer.idTokenClaims === undefined
          ? open.session.claims
          : { ...open.session.claims, ...claimsFrom(answer.idTokenClaims) },
    }
    const result: OpenSession = { ...open, session: next }
    const { digest } = open.ticket
    unwritten.set(digest, result)
    const first = await write(open, next, attemptId)
    if (first !== undefined) {
      forget(digest, result)
      return report(open, startedMs, first.outcome, first)
    }
    const writer = writeUntilTaken(open, result, attemptId)
      .catch((thrown) => void storeFailure(thrown))
      .finally(() => {
        forget(digest, result)
        writers.delete(writer)
      })
    writers.add(writer)
    return report(open, startedMs, 'not_yet_written', { outcome: 'refreshed', open: result })
  }

  const forget = (digest: SessionDigest, result: OpenSession) => {
    if (unwritten.get(digest) === result) unwritten.delete(digest)
  }

  const writeUntilTaken = async (
    open: Refreshable,
    result: OpenSession,
    attemptId: string,
  ): Promise<void> => {
    const untilMs = clock.monotonicMs() + times.rewrite
    let pause = POLL_FIRST_MS
    while (clock.monotonicMs() < untilMs) {
      await clock.sleep(jitter(pause))
      pause = Math.min(pause * 2, REWRITE_PAUSE_MAX_MS)
      if ((await write(open, result.session, attemptId)) !== undefined) return
    }
  }

  /** One try. Undefined when the store could not be asked: the write may or may not have been applied. */
  const write = async (
    open: Refreshable,
    next: Session,
    attemptId: string,
  ): Promise<Landing | undefined> => {
    try {
      const written = await vault.replace(open, next, attemptId)
      switch (written.kind) {
        case 'replaced':
          // The compare-and-set removed the attempt and its lease with it.
          return { outcome: 'refreshed', open: written.open }
        case 'moved':
          // Another answer was written first. This one is dropped in silence: revoking it would kill the
          // winner's grant at a provider that does not rotate (observed).
          return await adopt(open)
        case 'ended':
        case 'absent': {
          const landing = await adopt(open)
          // A new sign-in of this browser took its place, and the grant may be its own (docs/decisions/0002). Who waits
          // here was authenticated before, and goes on with what came back.
          if (landing.outcome === 'rejected' && landing.reason === 'replaced_at_login')
            return { outcome: 'refreshed', open: { ...open, session: next } }
          // The session ended meanwhile. Nothing is resurrected, and what came back is revoked.
          revoke(next.tokens.refreshToken, sessionLabel(open.ticket.digest))
          return landing
        }
      }
    } catch (thrown) {
      if (thrown instanceof GatewayError && thrown.code === 'store_unavailable') return undefined
      throw thrown
    }
  }

  const report = (
    open: OpenSession,
    startedMs: number,
    reason: string,
    landing: Landing,
  ): Landing => {
    const outcome: RefreshOutcome = landing.outcome
    emit({
      type: 'token_refreshed',
      session: sessionLabel(open.ticket.digest),
      outcome,
      ...(outcome === 'refreshed' ? {} : { reason }),
      durationMs: Math.round(clock.monotonicMs() - startedMs),
    })
    return landing
  }

  // ── what requests ask ───────────────────────────────────────────────────────────────────────────────────

  /** A result that waits to be written is newer than the record that was read. */
  const newest = (open: OpenSession): OpenSession => {
    const kept = unwritten.get(open.ticket.digest)
    return kept !== undefined && kept.session.generation > open.session.generation ? kept : open
  }

  const isRefreshable = (open: OpenSession): open is Refreshable =>
    canRefresh(open.session.tokens, clock.now())

  const begin = (open: Refreshable): Promise<Landing> => {
    const pause = pauses.get(open.ticket.digest)
    const leftMs = (pause?.untilMs ?? 0) - clock.monotonicMs()
    return pause !== undefined && leftMs > 0
      ? Promise.resolve({ ...pause.landing, retryAfter: milliseconds(leftMs) })
      : fly(open)
  }

  const within = async (limit: Milliseconds, flight: Promise<Landing>): Promise<Landing> => {
    const timeout = new AbortController()
    const late = clock.sleep(limit, timeout.signal).then(
      (): Landing => ({
        outcome: 'unavailable',
        what: 'provider',
        retryAfter: milliseconds(STORE_RETRY_MS),
      }),
    )
    const landing = await Promise.race([flight, late])
    timeout.abort()
    return landing
  }

  /** A token that is due is refreshed anyway; only one that looks good is worth a refresh no oftener than this. */
  const wasForcedLately = (open: OpenSession): boolean => {
    const last = forced.get(open.ticket.digest)
    return (
      last !== undefined &&
      clock.monotonicMs() - last.atMs < FORCE_EVERY_MS &&
      freshnessOf(open.session.tokens) === 'fresh'
    )
  }

  const hasRunOut = ({ session }: OpenSession): boolean =>
    judgedAt(session.tokens, clock.now()) >= session.tokens.accessTokenExpiresAt

  /** A token that could not be replaced serves to its end; after that the outage is told. */
  const refuseRunOut = (open: OpenSession, { what, retryAfter }: Unavailable): void => {
    if (!hasRunOut(open)) return
    throw new GatewayError(what === 'store' ? 'store_unavailable' : 'provider_unavailable', {
      reason: 'refresh_unavailable',
      retryAfterSeconds: Math.max(1, Math.ceil(retryAfter / 1000)),
    })
  }

  return {
    hasRunOut,

    isFresh: (open) => freshnessOf(open.session.tokens) === 'fresh' && newest(open) === open,

    // Who was sent away with the generation that was forced, or an older one, gets what came of it.
    mayForce: (open) =>
      !wasForcedLately(open) ||
      (forced.get(open.ticket.digest)?.generation ?? -1) >= open.session.generation,

    freshen: async (read) => {
      let open = newest(read)
      const waitUntilMs = clock.monotonicMs() + times.requestWait
      for (;;) {
        const { tokens } = open.session
        const freshness = freshnessOf(tokens)
        if (freshness === 'fresh' || !isRefreshable(open)) return { kind: 'usable', open }
        const flight = begin(open)
        if (freshness === 'due') return { kind: 'usable', open }
        const leftMs = Math.max(0, waitUntilMs - clock.monotonicMs())
        const landing = await within(milliseconds(leftMs), flight)
        if (landing.outcome === 'rejected') return { kind: 'ended', reason: landing.reason }
        if (landing.outcome === 'unavailable') {
          refuseRunOut(open, landing)
          return { kind: 'usable', open }
        }
        const hasMoved = isNewer(landing.open, open)
        open = landing.open
        // What somebody else had brought may have run out meanwhile: then it is this session's turn again.
        if (!hasMoved) return { kind: 'usable', open }
      }
    },

    force: async (sent) => {
      const { digest } = sent.ticket
      const seen = await vault.read(sent.ticket).catch(storeFailure)
      if ('outcome' in seen) {
        refuseRunOut(sent, seen)
        return undefined
      }
      if (seen.kind !== 'live') return undefined
      const open = newest(seen.open)
      if (open.session.generation > sent.session.generation) return open
      if (!isRefreshable(open) || wasForcedLately(open)) return undefined
      if (freshnessOf(open.session.tokens) === 'fresh')
        forced.set(digest, { atMs: clock.monotonicMs(), generation: open.session.generation })
      const landing = await within(times.requestWait, begin(open))
      if (landing.outcome === 'rejected') return undefined
      if (landing.outcome !== 'unavailable') return landing.open
      refuseRunOut(open, landing)
      return undefined
    },

    settled: async (limit) => {
      slots.dismiss()
      const timeout = new AbortController()
      const late = clock.sleep(limit, timeout.signal).then(() => 'late' as const)
      while (flights.size > 0 || writers.size > 0)
        if ((await Promise.race([Promise.all([...flights.values(), ...writers]), late])) === 'late')
          break
      timeout.abort()
    },
  }
}
