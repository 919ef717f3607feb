/** The Redis stores keep the contract on a real server, and on one that checks the slots of keys. */

import { oneTimeStoreContract } from '../../contract/one-time-store.contract.ts'
import { refreshLeaseContract } from '../../contract/refresh-lease.contract.ts'
import { sessionDirectoryContract } from '../../contract/session-directory.contract.ts'
import { sessionStoreContract } from '../../contract/session-store.contract.ts'
import { makeClusterRig, makeRedisRig } from './redis-rig.ts'

for (const [name, make] of [
  ['Redis', makeRedisRig],
  ['Redis in cluster mode', makeClusterRig],
] as const) {
  sessionStoreContract(name, { make })
  sessionDirectoryContract(name, { make })
  refreshLeaseContract(name, { make })
  oneTimeStoreContract(name, { make })
}
