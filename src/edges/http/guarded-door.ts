/** A door with a doorkeeper: before the gateway is ready, and once it is closed, whoever comes is told so. */

import { randomUUID } from 'node:crypto'
import { GatewayError } from '../../errors.ts'
import type { Emit } from '../../events.ts'
import { type Door, refuseUpgrade } from './app.ts'
import { problemReply } from './problem.ts'
import { envelope, send } from './reply.ts'

type Refusal = 'before_ready' | 'after_close'

/** A door that refuses everything with `gateway_not_serving` while `why` gives a reason. */
export const createDoorWhile = (door: Door, why: () => Refusal | undefined, emit: Emit): Door => {
  const refusalOf = (reason: Refusal) => {
    const requestId = randomUUID()
    const error = new GatewayError('gateway_not_serving', { reason })
    emit({ type: 'request_refused', requestId, code: error.code, reason })
    const answer = problemReply(error, {
      requestId,
      isNavigation: false,
      login: '',
      expectedOrigin: undefined,
    })
    return [answer, envelope()(requestId)] as const
  }
  return {
    listener: (req, res) => {
      const reason = why()
      if (reason === undefined) door.listener(req, res)
      else send(req, res, ...refusalOf(reason))
    },
    upgrade: (req, socket, head) => {
      const reason = why()
      if (reason === undefined) door.upgrade(req, socket, head)
      else refuseUpgrade(socket, ...refusalOf(reason))
    },
  }
}
