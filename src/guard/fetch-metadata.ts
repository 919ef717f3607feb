/** What the browser says about a request: Fetch Metadata, Origin, and what counts as a document navigation. */

/** One request as the guard sees it. `header` answers the joined value of a field, or undefined. */
export interface RequestFacts {
  readonly method: string
  header(name: string): string | undefined
}

/** Prefetches and prerenders announce themselves, and carry Strict cookies all the same. */
export const isSpeculative = (request: RequestFacts): boolean =>
  request.header('sec-purpose') !== undefined ||
  /\bprefetch\b/i.test(request.header('purpose') ?? '')

const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD'])

export const isSafeMethod = (method: string): boolean => SAFE_METHODS.has(method)

/**
 * A page load that the user sees: by Fetch Metadata where the browser sends any of it, else by an `Accept` that
 * names HTML. A speculative load is none.
 */
export const isDocumentNavigation = (request: RequestFacts): boolean => {
  if (isSpeculative(request)) return false
  const mode = request.header('sec-fetch-mode')
  const destination = request.header('sec-fetch-dest')
  if (
    mode === undefined &&
    destination === undefined &&
    request.header('sec-fetch-site') === undefined &&
    request.header('sec-fetch-user') === undefined
  )
    return /(?:^|[\s,])text\/html(?=[\s;,]|$)/i.test(request.header('accept') ?? '')
  return mode === 'navigate' && destination === 'document'
}

/** A navigation that began elsewhere: `Strict` cookies stay at home for it and for the redirects it follows. */
export const isFromOtherOrigin = (request: RequestFacts): boolean => {
  const site = request.header('sec-fetch-site')
  return site === 'cross-site' || site === 'same-site'
}
