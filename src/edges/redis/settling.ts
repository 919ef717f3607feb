/**
 * The moment after a reconnect or failover in which other processes may still be writing again what the store lost:
 * what is missing then is not known to be absent, and who holds a lease may be about to put it back.
 */

import { RENEW_PAUSE_MAX_MS, REWRITE_PAUSE_MAX_MS } from '../../credential/refresh-lease.ts'
import { RECONNECT_MAX_MS } from './client.ts'
import type { RedisConnection } from './connection.ts'

export interface Settling {
  isUnderWay(): boolean
}

/** All are connected again by then, have put their leases back and offered results that the store was not there for. */
const SETTLING_MS = Math.max(REWRITE_PAUSE_MAX_MS, RENEW_PAUSE_MAX_MS) + RECONNECT_MAX_MS

export const createSettling = (connection: RedisConnection): Settling => {
  let settledAtMs = 0
  connection.onRegained(() => {
    settledAtMs = performance.now() + SETTLING_MS
  })
  return {
    isUnderWay: () => {
      connection.lookForMasters()
      return performance.now() < settledAtMs
    },
  }
}
