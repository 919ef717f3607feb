/** Parameters of a query or form, and instants, as the gateway's own endpoints read and write them. */

import { GatewayError } from '../../errors.ts'

export const rfc3339 = (instant: number): string =>
  `${new Date(instant).toISOString().slice(0, 19)}Z`

/** A parameter that comes twice counts as malformed: no rule says which one is meant. */
export const singleValues =
  (parameters: URLSearchParams) =>
  (name: string): string | undefined => {
    const values = parameters.getAll(name)
    if (values.length > 1)
      throw new GatewayError('request_invalid', { reason: 'parameter_duplicated', parameter: name })
    return values[0]
  }
