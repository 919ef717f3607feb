/** Session administration: an operator lists and ends sessions by user, by sign-in at the provider, or all of them. */

import { GatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import type { Roster, RosterPage } from '../session/roster.ts'
import type { SessionDigest } from '../session/session.ts'
import { providerSessionIndex, subjectIndex } from '../session/session-index.ts'

/** Without an issuer that of this gateway is meant. */
export type Selection =
  | { readonly by: 'subject'; readonly subject: string; readonly issuer: string | undefined }
  | { readonly by: 'sid'; readonly sid: string; readonly issuer: string | undefined }
  | { readonly by: 'all' }

export interface Administration {
  /** `issuer` leaves out the sessions of every other provider. */
  list(
    selection: Selection,
    issuer: string | undefined,
    cursor: string | undefined,
  ): Promise<RosterPage>
  /** Throws `session_not_found` where no live session has that name. */
  end(digest: SessionDigest, requestId: string): Promise<number>
  endAll(selection: Selection, requestId: string): Promise<number>
}

export const createAdministration = ({
  roster,
  emit,
  issuer: ownIssuer,
}: {
  readonly roster: Roster
  readonly emit: Emit
  readonly issuer: string
}): Administration => {
  const indexOf = (selection: Exclude<Selection, { by: 'all' }>) => {
    const issuer = selection.issuer ?? ownIssuer
    return selection.by === 'subject'
      ? subjectIndex(issuer, selection.subject)
      : providerSessionIndex(issuer, selection.sid)
  }

  const ended = (by: Selection['by'] | 'session', count: number, requestId: string): number => {
    emit({ type: 'sessions_administered', requestId, by, ended: count })
    return count
  }

  return {
    list: async (selection, issuer, cursor) => {
      if (selection.by !== 'all') return roster.list(indexOf(selection), cursor)
      const page = await roster.listAll(cursor)
      return issuer === undefined
        ? page
        : {
            ...page,
            sessions: page.sessions.filter(({ metadata }) => metadata?.issuer === issuer),
          }
    },

    end: async (digest, requestId) => {
      const found = await roster.find(digest)
      if (found === undefined || !(await roster.end(found, 'admin')))
        throw new GatewayError('session_not_found')
      return ended('session', 1, requestId)
    },

    endAll: async (selection, requestId) =>
      ended(
        selection.by,
        selection.by === 'all'
          ? await roster.endEveryone('admin')
          : await roster.endIndex(indexOf(selection), 'admin'),
        requestId,
      ),
  }
}
