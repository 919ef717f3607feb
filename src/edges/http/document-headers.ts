/** Security headers of the SPA's files: those that break no ordinary build, and the strict set for who wants more. */

import { transportSecurityOf } from './reply.ts'

/** `default`, `strict`, or a Content-Security-Policy of the operator's own, sent as it is. */
export type PolicySetting = string

/**
 * Nobody frames the application, no plug-ins, no `<base>` that turns relative URLs elsewhere. Scripts, styles and
 * connections stay as the build made them: inline bootstraps, CDNs and error trackers go on working.
 */
const DEFAULT_POLICY = "frame-ancestors 'none'; object-src 'none'; base-uri 'self'"

/**
 * Everything from this origin alone. There is no `form-action`: browsers apply it to redirects too, and signing
 * out by a form ends at the provider.
 */
const STRICT_POLICY = `default-src 'self'; ${DEFAULT_POLICY}`

const policyOf = (setting: PolicySetting): string => {
  if (setting === 'default') return DEFAULT_POLICY
  return setting === 'strict' ? STRICT_POLICY : setting
}

/** Flat name-value list. */
export const documentHeaders = (csp: PolicySetting, publicUrl: string): readonly string[] => [
  'content-security-policy',
  policyOf(csp),
  'x-content-type-options',
  'nosniff',
  // Our own requests keep their path, from which `returnTo` is taken; other sites see the origin at most.
  'referrer-policy',
  'strict-origin-when-cross-origin',
  // Other sites' windows get no hold on ours; popups that the application opens itself keep working.
  'cross-origin-opener-policy',
  'same-origin-allow-popups',
  ...transportSecurityOf(publicUrl).flat(),
]
