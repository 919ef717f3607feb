/** My devices: the sessions of the user who asks, listed and ended by handles that tell nothing about them. */

import type { ListedSession, Roster } from '../session/roster.ts'
import { type DeviceHandle, deviceHandle, subjectIndex } from '../session/session-index.ts'
import type { OpenSession, Vault } from '../session/vault.ts'
import type { EpochMs } from '../time.ts'

export interface Device {
  readonly handle: DeviceHandle
  /** `User-Agent` at sign-in, where there was one. */
  readonly device: string | undefined
  readonly address: string
  readonly createdAt: EpochMs
  readonly lastSeenAt: EpochMs
  /** The one that asks. */
  readonly current: boolean
}

export interface Devices {
  /** The one that asks first, then the latest seen. */
  list(open: OpenSession): Promise<readonly Device[]>
  end(open: OpenSession, handle: DeviceHandle): Promise<'ended' | 'ended_current' | 'unknown'>
  /** All but the one that asks; their number. */
  endOthers(open: OpenSession): Promise<number>
}

/** More than a page can show. */
const DEVICES_MAX = 100
/** What one look costs the store has a limit too, whatever a user has piled up. */
const LOOKED_AT_MAX = 1_000

export const createDevices = ({
  roster,
  vault,
}: {
  readonly roster: Roster
  readonly vault: Vault
}): Devices => {
  async function* sessionsOf({ session }: OpenSession): AsyncGenerator<ListedSession> {
    const index = subjectIndex(session.issuer, session.subject)
    let cursor: string | undefined
    do {
      const page = await roster.list(index, cursor)
      yield* page.sessions
      cursor = page.next
    } while (cursor !== undefined)
  }

  return {
    list: async (open) => {
      const devices = new Map<DeviceHandle, Device>()
      const add = ({ digest, metadata, lastActivityAt }: ListedSession) => {
        if (metadata === undefined) return
        const { device, address, createdAt } = metadata
        const handle = deviceHandle(digest)
        devices.set(handle, {
          handle,
          device,
          address,
          createdAt,
          lastSeenAt: lastActivityAt ?? createdAt,
          current: digest === open.ticket.digest,
        })
      }
      const current = await roster.find(open.ticket.digest)
      if (current !== undefined) add(current)
      for await (const session of sessionsOf(open)) {
        add(session)
        if (devices.size >= LOOKED_AT_MAX) break
      }
      return [...devices.values()]
        .toSorted(
          (one, other) =>
            Number(other.current) - Number(one.current) || other.lastSeenAt - one.lastSeenAt,
        )
        .slice(0, DEVICES_MAX)
    },

    end: async (open, handle) => {
      if (handle === deviceHandle(open.ticket.digest)) {
        await vault.endAndRevoke(open, 'logout')
        return 'ended_current'
      }
      for await (const session of sessionsOf(open))
        if (deviceHandle(session.digest) === handle) {
          await roster.end(session, 'ended_elsewhere')
          return 'ended'
        }
      return 'unknown'
    },

    // Without a mark, which would end the one that asks as well.
    endOthers: async (open) => {
      let count = 0
      for await (const session of sessionsOf(open))
        if (session.digest !== open.ticket.digest && (await roster.end(session, 'ended_elsewhere')))
          count += 1
      return count
    },
  }
}
