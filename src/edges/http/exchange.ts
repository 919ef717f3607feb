/** One exchange: Node's request and answer with what the gateway knows about them from the start. */

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ClientAddress } from '../../guard/admission.ts'
import type { RequestFacts } from '../../guard/fetch-metadata.ts'
import type { Target } from '../../routing/path.ts'

export interface Exchange extends RequestFacts {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly requestId: string
  readonly client: ClientAddress
  readonly target: Target
}

/** The joined value of a field. Node already joined repeated lines; only `set-cookie` stays a list. */
export const headerOf = (req: IncomingMessage, name: string): string | undefined => {
  const value = req.headers[name]
  return Array.isArray(value) ? value.join(', ') : value
}
