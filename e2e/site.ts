/** Another web site, for tests of what the browser does between sites: given pages, every request recorded. */

import {
  answerJson,
  startUpstreamApi,
  type UpstreamAnswer,
  type UpstreamRequest,
} from '../test/support/upstream-api.ts'

export interface Site {
  /** Origin, without a trailing slash. */
  readonly url: string
  readonly requests: readonly UpstreamRequest[]
  /** Serves a page, or whatever the answer does, under a path; the query does not matter. */
  serve(
    path: string,
    page: string | UpstreamAnswer,
    headers?: Readonly<Record<string, string>>,
  ): void
  forgetRequests(): void
  close(): Promise<void>
}

/**
 * `foreign` lives on 127.0.0.1, which is another site than the gateway's `localhost`; `sibling` lives on
 * another port of `localhost`, which is another origin of the same site and shares its cookies.
 */
export const startSite = async (relation: 'foreign' | 'sibling'): Promise<Site> => {
  const answers = new Map<string, UpstreamAnswer>()
  const notFound = answerJson({ error: 'no such page' }, 404)
  const api = await startUpstreamApi({
    answer: (request, response) => {
      const path = new URL(request.url, 'http://site').pathname
      return (answers.get(path) ?? notFound)(request, response)
    },
  })
  const host = relation === 'foreign' ? '127.0.0.1' : 'localhost'
  return {
    url: `http://${host}:${api.port}`,
    get requests() {
      return api.requests
    },
    serve(path, page, headers = {}) {
      answers.set(path, typeof page === 'string' ? answerHtml(page, headers) : page)
    },
    forgetRequests: api.forgetRequests,
    close: api.close,
  }
}

export const answerHtml =
  (html: string, headers: Readonly<Record<string, string>> = {}): UpstreamAnswer =>
  (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', ...headers })
    response.end(`<!doctype html><title>test page</title>${html}`)
  }

export const answerRedirect =
  (location: string, status: 301 | 302 | 303 | 307 | 308 = 303): UpstreamAnswer =>
  (_request, response) => {
    response.writeHead(status, { location })
    response.end()
  }
