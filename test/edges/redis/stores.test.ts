/** The Redis stores keep the contract on a real server. */

import { oneTimeStoreContract } from '../../contract/one-time-store.contract.ts'
import { refreshLeaseContract } from '../../contract/refresh-lease.contract.ts'
import { sessionStoreContract } from '../../contract/session-store.contract.ts'
import { makeRedisRig } from './redis-rig.ts'

sessionStoreContract('Redis', { make: makeRedisRig })
refreshLeaseContract('Redis', { make: makeRedisRig })
oneTimeStoreContract('Redis', { make: makeRedisRig })
