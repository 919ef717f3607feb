/** Names a token without giving it away, for logs and pages of the development tools. */

import { createHash } from 'node:crypto'

/** 12 characters of the token's base64url SHA-256. */
export const tokenFingerprint = (token: string): string =>
  createHash('sha256').update(token).digest('base64url').slice(0, 12)
