/** The refresh lease in Redis. All times run by the server's clock, so no two gateways' clocks are compared. */

import type { LeaseAnswer, LeaseRequest, RefreshLease } from '../../credential/refresh-lease.ts'
import type { SessionDigest } from '../../session/session.ts'
import { type Milliseconds, milliseconds } from '../../time.ts'
import type { RedisConnection } from './connection.ts'
import { unreadableAnswer } from './failure.ts'
import type { Settling } from './settling.ts'
import { READ_STORED_LUA } from './stored-form.ts'

// An attempt is `<generation> <owner> <attemptId> <1 when an earlier one was never resolved, else 0>`. Its time to
// keep others away is a key of its own, so that the attempt outlives it.
const HOLD_LUA = `
local function hold(deadline, abandoned)
  local attempt = ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. abandoned
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
  redis.call('SET', KEYS[3], attempt, 'PXAT', expiry(deadline))
  redis.call('SET', KEYS[4], '1', 'PX', ARGV[5])
end
`

const TAKE = `${READ_STORED_LUA}${HOLD_LUA}
local state, generation, deadline = read(KEYS[1])
if state ~= 'live' then return { state } end
if generation ~= ARGV[1] then return { 'moved' } end
local pause = redis.call('PTTL', KEYS[5])
if pause > 0 then return { 'unavailable', pause } end
if redis.call('EXISTS', KEYS[2]) == 1 then return { 'busy' } end
local earlier = string.match(redis.call('GET', KEYS[3]) or '', '^%d+') == generation
if earlier and redis.call('EXISTS', KEYS[4]) == 1 then return { 'busy' } end
local abandoned = earlier and 1 or 0
hold(deadline, abandoned)
return { 'taken', abandoned }
`

// A lease lapses without its attempt, and both go only by their owner, or with the generation or the session: gone
// together beside the same record they were lost.
const RENEW = `${READ_STORED_LUA}${HOLD_LUA}
if redis.call('GET', KEYS[2]) == ARGV[2] then return redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
local state, generation, deadline = read(KEYS[1])
if state ~= 'live' or generation ~= ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 0 end
hold(deadline, 0)
return 1
`

const LET_GO = `
local held = redis.call('GET', KEYS[1]) == ARGV[1]
local owner, earlier = string.match(redis.call('GET', KEYS[2]) or '', '^%d+ (%S+) %S+ ([01])$')
local tried = owner == ARGV[1]
if held then redis.call('DEL', KEYS[1]) end
if tried then
  redis.call('DEL', KEYS[3])
  if ARGV[2] == 'no' and earlier == '0' then redis.call('DEL', KEYS[2]) end
end
if (held or tried) and ARGV[3] then redis.call('SET', KEYS[4], 'unavailable', 'PX', ARGV[3]) end
return 1
`

export const createRedisRefreshLease = (
  connection: RedisConnection,
  settling: Settling,
): RefreshLease => {
  const { keys } = connection
  const take = connection.script('cc_take', 5, TAKE)
  const renew = connection.script('cc_renew', 4, RENEW)
  const letGo = connection.script('cc_let_go', 4, LET_GO)

  const release = async (
    digest: SessionDigest,
    owner: string,
    spent: 'no' | 'unknown',
    retryAfter: readonly Milliseconds[],
  ) => {
    const { lease, attempt, window, outcome } = keys.session(digest)
    await letGo([lease, attempt, window, outcome], [owner, spent, ...retryAfter.map(wholeMs)])
  }

  return {
    take: async (digest, request) => {
      // Holders put theirs back first, so that no refresh token which has been spent is spent again.
      if (settling.isUnderWay()) return { kind: 'busy' }
      const { record, lease, attempt, window, outcome } = keys.session(digest)
      const all = [record, lease, attempt, window, outcome]
      const answer = leaseAnswer(await take(all, argumentsOf(request)))
      // It may have been taken at a master that was promoted meanwhile.
      if (answer.kind !== 'taken' || !settling.isUnderWay()) return answer
      await release(digest, request.owner, 'no', [])
      return { kind: 'busy' }
    },

    renew: async (digest, request) => {
      const { record, lease, attempt, window } = keys.session(digest)
      return (await renew([record, lease, attempt, window], argumentsOf(request))) === 1
    },

    release: (digest, owner) => release(digest, owner, 'no', []),
    releaseUnavailable: (digest, owner, retryAfter, spent) =>
      release(digest, owner, spent, [retryAfter]),
  }
}

const argumentsOf = (request: LeaseRequest) => [
  request.generation,
  request.owner,
  request.attemptId,
  wholeMs(request.leaseTime),
  wholeMs(request.giveUpTime),
]

/** Redis takes whole positive milliseconds only. */
const wholeMs = (duration: Milliseconds): number => Math.max(1, Math.ceil(duration))

const leaseAnswer = (answer: unknown): LeaseAnswer => {
  const [kind, detail] = Array.isArray(answer) ? answer : []
  switch (kind) {
    case 'taken':
      return { kind, abandonedAttempt: detail === 1 }
    case 'unavailable':
      return { kind, retryAfter: milliseconds(Number(detail)) }
    case 'busy':
    case 'moved':
    case 'ended':
    case 'absent':
      return { kind }
    default:
      throw unreadableAnswer('lease')
  }
}
