/** Secrets that this gateway makes up: the key ring's, random enough to seal with, and the admin API's tokens. */

import { type Form, list, matching } from './forms.ts'

export const SECRET_CHARACTERS_MIN = 32

const secret = matching(
  'text',
  `must have at least ${SECRET_CHARACTERS_MIN} characters, none of them a control character; make one with: openssl rand -base64 48`,
  /^[^\p{Cc}]{32,1024}$/u,
)

const ring = list(secret, { separator: /[,\r\n]/, itemsMin: 1, itemsMax: 10 })

/** Newest first: the first seals, all open. */
export const secretRing: Form<readonly string[]> = {
  ...ring,
  schema: ring.schema.refine((secrets) => new Set(secrets).size === secrets.length, {
    error: 'must not contain the same secret twice',
  }),
  written: `list of texts of at least ${SECRET_CHARACTERS_MIN} characters, separated by commas or lines`,
}

const adminToken = matching(
  'text',
  `must have at least ${SECRET_CHARACTERS_MIN} of A-Z a-z 0-9 - . _ ~ + / and = at its end (RFC 6750 §2.1); make one with: openssl rand -base64 48`,
  /^(?=.{32,1024}$)[\w.~+/-]+=*$/,
)

const adminTokenList = list(adminToken, { separator: /[,\r\n]/, itemsMin: 1, itemsMax: 2 })

/** Two while one replaces the other. */
export const adminTokens: Form<readonly string[]> = {
  ...adminTokenList,
  schema: adminTokenList.schema.refine((tokens) => new Set(tokens).size === tokens.length, {
    error: 'must not contain the same token twice',
  }),
  written: `one text of at least ${SECRET_CHARACTERS_MIN} characters, or two, separated by a comma or line`,
}

/** A generated secret of 32 hexadecimal digits has about 14 different characters, and fewer than 6 practically never. */
const CHARACTERS_DIFFERENT_MIN = 6

const PLACEHOLDER =
  /password|secret|change-?me|example|develop|default|coatcheck|qwerty|12345|abcdef/i

/** Whether a secret looks thought up rather than generated. Only a guess, so it warns and refuses nothing. */
export const looksInvented = (written: string): boolean =>
  PLACEHOLDER.test(written) ||
  /^(.{1,64}?)\1+$/su.test(written) ||
  new Set(written).size < CHARACTERS_DIFFERENT_MIN
