/** `Max-Forwards` (RFC 9110 §7.6.2): how many more recipients may pass a request on. */

/** The request may go no further: whoever has it answers. Of all methods that reach a route, this binds OPTIONS alone. */
export const isFinalRecipient = (method: string, maxForwards: string | undefined): boolean =>
  method === 'OPTIONS' && /^0+$/.test(maxForwards ?? '')

/** No chain is longer. */
const FORWARDS_MAX = 1_000

/** What to send on: one less. What is no number means nothing to anybody, and passes. */
export const oneForwardLess = (value: string): string =>
  /^\d+$/.test(value) ? String(Math.min(Math.max(Number(value) - 1, 0), FORWARDS_MAX)) : value
