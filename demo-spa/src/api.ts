/** Calls on our own origin, through the client: the ticket in the cookie goes along by itself. */

import { CoatcheckError, coatcheck } from './session.ts'

export interface Problem {
  readonly code: string
  readonly title: string
  readonly detail: string
}

export type Outcome<Body> =
  | { readonly kind: 'answer'; readonly body: Body }
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
  /** Of a problem, whether the gateway's or the API's. */
  readonly code: string | undefined
  readonly durationMs: number
  readonly text: string
  /** Which one answered, where the demo runs several. */
  readonly replica: string | undefined
}

export interface CallOptions {
  readonly body?: unknown
  readonly onCall?: (call: Call) => void
}

/** Everything this page's calls were answered, for the proof that no token was in it. */
export interface Observed {
  calls: number
  readonly headers: Map<string, string>
  /** Names of headers, or paths of bodies, with something in them that looks like a token. */
  readonly suspects: Set<string>
}

export const observed: Observed = { calls: 0, headers: new Map(), suspects: new Set() }

/** Of the demo's balancer, on everything that a replica answered. */
const REPLICA_HEADER = 'x-demo-replica'

// A JWT, or what token endpoints name their fields.
const LOOKS_LIKE_A_TOKEN = /\beyJ[\w-]{8,}\.[\w-]+\.|"(access|refresh|id)_token"/

export const call = async <Body>(
  method: string,
  path: string,
  { body, onCall }: CallOptions = {},
): Promise<Outcome<Body>> => {
  const from = performance.now()
  const done = (made: Pick<Call, 'status' | 'text'> & Partial<Call>) => {
    const durationMs = Math.round(performance.now() - from)
    onCall?.({ method, path, durationMs, code: undefined, replica: undefined, ...made })
  }
  // #region call
  try {
    const response = await coatcheck.fetch(path, jsonRequest(method, body))
    const text = await response.text()
    observe(path, response.headers, text)
    const replica = response.headers.get(REPLICA_HEADER) ?? undefined
    const problem = response.ok ? undefined : apiProblem(response.status, text)
    done({ status: response.status, text, code: problem?.code, replica })
    return problem ? { kind: 'refused', problem } : { kind: 'answer', body: parsed(text) as Body }
  } catch (thrown) {
    // What the gateway refuses comes as an error with a code; nothing here parses it.
    const problem = thrown instanceof CoatcheckError ? thrown : CUT_OFF
    done({ status: problem.status, code: problem.code, text: problem.detail })
    return { kind: problem.retryable ? 'try_again' : 'refused', problem }
  }
  // #endregion
}

const jsonRequest = (method: string, body: unknown): RequestInit =>
  body === undefined
    ? { method, headers: { accept: 'application/json' } }
    : {
        method,
        headers: { accept: 'application/json', 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }

const CUT_OFF = {
  status: 0,
  code: 'cut_off',
  title: 'The answer broke off',
  detail: 'Its beginning came, its end did not.',
  retryable: true,
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

/** The API behind the gateway has errors of its own shape. */
const apiProblem = (status: number, text: string): Problem => {
  const body = (parsed(text) ?? {}) as Readonly<Record<string, unknown>>
  const textOf = (name: string) => (typeof body[name] === 'string' ? body[name] : undefined)
  return {
    code: textOf('error') ?? `status_${status}`,
    title: `The API answered ${status}`,
    detail: textOf('detail') ?? 'It gave no reason.',
  }
}
