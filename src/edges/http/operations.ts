/** Interim operations. */
import type { RequestListener } from 'node:http'
export const createOperations =
  (_: Record<string, unknown>): RequestListener =>
  (_req, res) => {
    res.end('ok')
  }
