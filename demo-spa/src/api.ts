/** Calls on our own origin. There is no token code here: the ticket in the cookie goes along by itself. */

export interface Problem {
  readonly status: number
  readonly code: string
  readonly title: string
  readonly detail: string
  /** A ready URL where signing in is what helps. */
  readonly login: string | undefined
}

export type Outcome<Body> =
  | { readonly kind: 'answer'; readonly status: number; readonly body: Body }
  /** The gateway says that there is no session any more. */
  | { readonly kind: 'signed_out'; readonly problem: Problem }
  /** Something is down for the moment: the session is kept and the same call may work soon. */
  | { readonly kind: 'try_again'; readonly problem: Problem }
  | { readonly kind: 'refused'; readonly problem: Problem }

/** The body of a good answer; everything else is shown where it belongs. */
export type Settle = <Body>(outcome: Outcome<Body>) => Body | undefined

export interface Call {
  readonly method: string
  readonly path: string
  /** 0 when nothing answered. */
  readonly status: number
  readonly durationMs: number
  readonly text: string
  /** Which one answered, where the demo runs several. */
  readonly replica: string | undefined
}

/** Everything this page was ever sent, for the proof that no token was in it. */
export interface Observed {
  calls: number
  readonly headers: Map<string, string>
  /** Names of headers, or paths of bodies, with something in them that looks like a token. */
  readonly suspects: Set<string>
}

/** Of the demo's balancer, on everything that a replica answered. */
const REPLICA_HEADER = 'x-demo-replica'

export const hasReplicas = (): boolean => observed.headers.has(REPLICA_HEADER)

export const observed: Observed = { calls: 0, headers: new Map(), suspects: new Set() }

// A JWT, or what token endpoints name their fields.
const LOOKS_LIKE_A_TOKEN = /\beyJ[\w-]{8,}\.[\w-]+\.|"(access|refresh|id)_token"/

export const call = async <Body>(
  method: string,
  path: string,
  { body, onCall }: { readonly body?: unknown; readonly onCall?: (call: Call) => void } = {},
): Promise<Outcome<Body>> => {
  const from = performance.now()
  const done = (status: number, text: string, replica?: string) =>
    onCall?.({
      method,
      path,
      status,
      durationMs: Math.round(performance.now() - from),
      text,
      replica,
    })
  let response: Response
  let text: string
  try {
    response = await fetch(path, {
      method,
      headers: {
        accept: 'application/json',
        // Needed only where the gateway is set to `csrf: header`, and harmless elsewhere.
        'x-csrf': '1',
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    text = await response.text()
  } catch {
    // fetch says no more than that nothing came; what that means is the same for every cause.
    done(0, '')
    return { kind: 'try_again', problem: UNREACHABLE }
  }
  observe(path, response.headers, text)
  done(response.status, text, response.headers.get(REPLICA_HEADER) ?? undefined)
  if (response.ok) {
    return { kind: 'answer', status: response.status, body: parsed(text) as Body }
  }
  const problem = problemOf(response, text)
  if (response.status === 401 && problem.code.startsWith('session_')) {
    return { kind: 'signed_out', problem }
  }
  return { kind: [502, 503, 504].includes(response.status) ? 'try_again' : 'refused', problem }
}

const UNREACHABLE: Problem = {
  status: 0,
  code: 'unreachable',
  title: 'No answer',
  detail: 'The gateway cannot be reached at the moment. Nothing is lost.',
  login: undefined,
}

const observe = (path: string, headers: Headers, text: string): void => {
  observed.calls += 1
  for (const [name, value] of headers) {
    observed.headers.set(name, value)
    if (LOOKS_LIKE_A_TOKEN.test(value)) observed.suspects.add(name)
  }
  if (LOOKS_LIKE_A_TOKEN.test(text)) observed.suspects.add(path)
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    // An empty body (204), or an answer that is not ours to understand.
    return undefined
  }
}

/** Problem documents are the gateway's (RFC 9457); the API behind it has errors of its own shape. */
const problemOf = (response: Response, text: string): Problem => {
  const body = (parsed(text) ?? {}) as Readonly<Record<string, unknown>>
  const textOf = (...names: string[]) =>
    names.map((name) => body[name]).find((value) => typeof value === 'string')
  return {
    status: response.status,
    code: textOf('code', 'error') ?? `status_${response.status}`,
    title: textOf('title') ?? `The answer was ${response.status}`,
    detail: textOf('detail') ?? 'The API gave no reason.',
    login: textOf('login'),
  }
}
