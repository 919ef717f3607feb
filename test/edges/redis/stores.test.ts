/** The Redis stores keep the contract on real servers of every kind, and with no more rights than documented. */

import { oneTimeStoreContract } from '../../contract/one-time-store.contract.ts'
import { refreshLeaseContract } from '../../contract/refresh-lease.contract.ts'
import { sessionChangesContract } from '../../contract/session-changes.contract.ts'
import { sessionDirectoryContract } from '../../contract/session-directory.contract.ts'
import { sessionStoreContract } from '../../contract/session-store.contract.ts'
import {
  makeClusterRig,
  makeRedisRig,
  makeRestrictedRig,
  makeSentinelRig,
  makeTlsRig,
} from './redis-rig.ts'

for (const [name, make] of [
  ['Redis', makeRedisRig],
  ['Redis as a restricted user', makeRestrictedRig],
  ['Redis over TLS with a client certificate', makeTlsRig],
  ['Redis behind three Sentinels', makeSentinelRig],
  ['a Redis Cluster of six nodes', makeClusterRig],
] as const) {
  sessionStoreContract(name, { make })
  sessionChangesContract(name, { make })
  sessionDirectoryContract(name, { make })
  refreshLeaseContract(name, { make })
  oneTimeStoreContract(name, { make })
}
