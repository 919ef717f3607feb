/**
 * The browser of test/support against the real one: every scenario is played in both, and the servers must
 * have seen the same requests: cookies, Origin, Referer and Fetch Metadata. Flow tests rest on this.
 */

import { expect, type Page, test } from '@playwright/test'
import { type BrowserResponse, createBrowser } from '../test/support/browser.ts'
import { answerHtml, answerRedirect, type Site, startSite } from './site.ts'

/** What a scenario can do; `link` and `form` are on the page that the actor is on. */
interface Actor {
  type(url: string): Promise<void>
  clickLink(url: string): Promise<void>
  submitForm(): Promise<void>
  reload(): Promise<void>
  fetch(
    url: string,
    init?: { method?: string; mode?: 'cors' | 'no-cors'; credentials?: 'include' },
  ): Promise<void>
}

let app: Site
let sibling: Site
let foreign: Site

test.beforeAll(async () => {
  // The app is a sibling of nobody else's: it stands where the gateway stands.
  ;[app, sibling, foreign] = await Promise.all([
    startSite('sibling'),
    startSite('sibling'),
    startSite('foreign'),
  ])
})

test.afterAll(() => Promise.all([app.close(), sibling.close(), foreign.close()]))

const COOKIES = [
  '__Host-Http-strict=1; Path=/; Secure; HttpOnly; SameSite=Strict',
  '__Host-Http-lax=1; Path=/; Secure; HttpOnly; SameSite=Lax',
  'none=1; Path=/; Secure; SameSite=None',
  'unstated=1; Path=/',
  'below=1; Path=/below; SameSite=Lax',
  // Refused, each by another rule.
  '__Host-no-path=1; Path=/below; Secure',
  '__Host-no-secure=1; Path=/',
  '__Host-Http-no-http-only=1; Path=/; Secure',
  '__Http-no-http-only=1; Path=/; Secure',
  '__Secure-no-secure=1; Path=/',
  'none-no-secure=1; Path=/; SameSite=None',
  '__Host-Domain=1; Path=/; Secure; Domain=localhost',
  'other-domain=1; Path=/; Domain=example.com',
  '=__Host-nameless=1; Path=/; Secure',
]

const link = (url: string) => `<a href="${url}">link</a>`
const form = (action: string, method: 'get' | 'post') =>
  `<form action="${action}" method="${method}"><input type="hidden" name="a" value="b &amp; c"><button>send</button></form>`

const scenarios: Record<string, (actor: Actor) => Promise<void>> = {
  'a typed URL': (actor) => actor.type(`${app.url}/end`),
  'a path below': (actor) => actor.type(`${app.url}/below/end`),
  'a link on the own origin': async (actor) => {
    app.serve('/start', link('/end?a=b#fragment'))
    await actor.type(`${app.url}/start?query`)
    await actor.clickLink('/end?a=b#fragment')
  },
  'a link on a sibling': async (actor) => {
    sibling.serve('/start', link(`${app.url}/end`))
    await actor.type(`${sibling.url}/start?query`)
    await actor.clickLink(`${app.url}/end`)
  },
  'a link on a foreign site': async (actor) => {
    foreign.serve('/start', link(`${app.url}/end`))
    await actor.type(`${foreign.url}/start?query`)
    await actor.clickLink(`${app.url}/end`)
  },
  'a link on a foreign site that redirects within the app': async (actor) => {
    foreign.serve('/start', link(`${app.url}/hop`))
    app.serve('/hop', answerRedirect('/end'))
    await actor.type(`${foreign.url}/start`)
    await actor.clickLink(`${app.url}/hop`)
  },
  'a link on the own origin that comes back over a foreign site': async (actor) => {
    app.serve('/start', link('/away'))
    app.serve('/away', answerRedirect(`${foreign.url}/back`))
    foreign.serve('/back', answerRedirect(`${app.url}/hop`))
    app.serve('/hop', answerRedirect('/end'))
    await actor.type(`${app.url}/start`)
    await actor.clickLink('/away')
  },
  'a link on the own origin that comes back over a sibling': async (actor) => {
    app.serve('/start', link('/away'))
    app.serve('/away', answerRedirect(`${sibling.url}/back`))
    sibling.serve('/back', answerRedirect(`${app.url}/end`))
    await actor.type(`${app.url}/start`)
    await actor.clickLink('/away')
  },
  'a typed URL that comes back over a foreign site': async (actor) => {
    app.serve('/away', answerRedirect(`${foreign.url}/back`))
    foreign.serve('/back', answerRedirect(`${app.url}/end`))
    await actor.type(`${app.url}/away`)
  },
  'a typed foreign URL that redirects to the app': async (actor) => {
    foreign.serve('/back', answerRedirect(`${app.url}/end`))
    await actor.type(`${foreign.url}/back`)
  },
  'a redirect with a Referrer-Policy of its own': async (actor) => {
    app.serve('/start', link('/away?secret'))
    app.serve('/away', (_request, response) => {
      response.writeHead(303, { location: '/end', 'referrer-policy': 'no-referrer' }).end()
    })
    await actor.type(`${app.url}/start`)
    await actor.clickLink('/away?secret')
  },
  'a form that gets on the own origin': async (actor) => {
    app.serve('/start', form('/end', 'get'))
    await actor.type(`${app.url}/start`)
    await actor.submitForm()
  },
  'a form that posts on the own origin and is redirected': async (actor) => {
    app.serve('/start', form('/hop', 'post'))
    app.serve('/hop', answerRedirect('/end'))
    await actor.type(`${app.url}/start`)
    await actor.submitForm()
  },
  'a form on a no-referrer page': async (actor) => {
    app.serve('/start', form('/end', 'post'), { 'referrer-policy': 'no-referrer' })
    await actor.type(`${app.url}/start`)
    await actor.submitForm()
  },
  'a form on a same-origin-referrer page': async (actor) => {
    app.serve('/start', form(`${foreign.url}/end`, 'post'), { 'referrer-policy': 'same-origin' })
    await actor.type(`${app.url}/start`)
    await actor.submitForm()
  },
  'a foreign form that posts to the app': async (actor) => {
    foreign.serve('/start', form(`${app.url}/end`, 'post'))
    await actor.type(`${foreign.url}/start`)
    await actor.submitForm()
  },
  'a sibling form that posts to the app': async (actor) => {
    sibling.serve('/start', form(`${app.url}/end`, 'post'))
    await actor.type(`${sibling.url}/start`)
    await actor.submitForm()
  },
  'a sign-in at a foreign site: its form posts, two redirects lead into the app': async (actor) => {
    app.serve('/start', link('/login'))
    app.serve('/login', answerRedirect(`${foreign.url}/sign-in`))
    foreign.serve('/sign-in', form('/sent', 'post'))
    foreign.serve('/sent', answerRedirect(`${app.url}/callback`))
    app.serve('/callback', answerRedirect('/end'))
    await actor.type(`${app.url}/start`)
    await actor.clickLink('/login')
    await actor.submitForm()
    await actor.fetch('/api')
    await actor.reload()
  },
  'a form that is redirected by 307 to a foreign site and back': async (actor) => {
    app.serve('/start', form('/away', 'post'))
    app.serve('/away', answerRedirect(`${foreign.url}/back`, 307))
    foreign.serve('/back', answerRedirect(`${app.url}/end`, 307))
    await actor.type(`${app.url}/start`)
    await actor.submitForm()
  },
  'a refreshing page after a foreign link': async (actor) => {
    let visits = 0
    app.serve('/start', (request, response) => {
      visits += 1
      const page = visits === 1 ? '<meta http-equiv="refresh" content="0; url=/start?a=b">' : 'done'
      return answerHtml(page)(request, response)
    })
    foreign.serve('/start', link(`${app.url}/start?a=b`))
    await actor.type(`${foreign.url}/start`)
    await actor.clickLink(`${app.url}/start?a=b`)
  },
  'a reload of a typed page': async (actor) => {
    await actor.type(`${app.url}/end`)
    await actor.reload()
  },
  'fetches within the own origin': async (actor) => {
    app.serve('/start', 'page')
    app.serve('/hop', answerRedirect('/end'))
    await actor.type(`${app.url}/start?query#fragment`)
    await actor.fetch('/end')
    await actor.fetch('/end', { method: 'POST' })
    await actor.fetch('/end', { method: 'DELETE' })
    await actor.fetch('/hop')
    await actor.fetch('/end', { mode: 'no-cors' })
  },
  'fetches from a sibling': async (actor) => {
    sibling.serve('/start', 'page')
    await actor.type(`${sibling.url}/start`)
    await actor.fetch(`${app.url}/end`, { mode: 'no-cors', credentials: 'include' })
    await actor.fetch(`${app.url}/end`, { mode: 'no-cors', method: 'POST', credentials: 'include' })
    await actor.fetch(`${app.url}/end`, { credentials: 'include' })
    await actor.fetch(`${app.url}/end`)
  },
  'fetches from a foreign site': async (actor) => {
    foreign.serve('/start', 'page')
    await actor.type(`${foreign.url}/start`)
    await actor.fetch(`${app.url}/end`, { mode: 'no-cors', credentials: 'include' })
    await actor.fetch(`${app.url}/end`, { mode: 'no-cors', method: 'POST', credentials: 'include' })
    await actor.fetch(`${app.url}/end`, { credentials: 'include' })
  },
  'fetches that leave the origin and come back': async (actor) => {
    app.serve('/start', 'page')
    app.serve('/away', answerRedirect(`${foreign.url}/back`, 307))
    foreign.serve('/back', answerRedirect(`${app.url}/end`, 307))
    await actor.type(`${app.url}/start`)
    await actor.fetch('/away', { mode: 'no-cors', credentials: 'include' })
    await actor.fetch('/away', { mode: 'no-cors', method: 'POST', credentials: 'include' })
  },
}

for (const [title, play] of Object.entries(scenarios)) {
  test(`the test browser and Chromium send the same: ${title}`, async ({ page }) => {
    const real = await seen(() => play(chromium(page)))
    const ours = await seen(() => play(testBrowser()))
    expect(ours).toEqual(real)
  })
}

/** Plays against fresh servers with cookies set; returns what they saw, one line per fact. */
const seen = async (play: () => Promise<void>): Promise<string[]> => {
  for (const site of [app, sibling, foreign]) {
    site.serve('/cookies', (request, response) => {
      response.setHeader('set-cookie', COOKIES)
      return answerHtml('cookies')(request, response)
    })
    for (const path of ['/end', '/below/end', '/api', '/favicon.ico']) site.serve(path, 'end')
    site.forgetRequests()
  }
  await play()
  const requests = [app, sibling, foreign].flatMap((site) =>
    site.requests
      .filter(({ url }) => !['/favicon.ico', '/cookies'].includes(url))
      .map((request) => ({ site, request })),
  )
  return requests.map(({ site, request }) =>
    [
      `${request.method} ${site.url}${request.url}`,
      ...[
        'origin',
        'referer',
        'sec-fetch-site',
        'sec-fetch-mode',
        'sec-fetch-dest',
        'sec-fetch-user',
        'content-type',
        'content-length',
      ].map((name) => `${name}: ${request.header(name) ?? '-'}`),
      `cookie: ${request.header('cookie') ?? '-'}`,
      `body: ${request.body}`,
    ].join('\n'),
  )
}

const chromium = (page: Page): Actor => {
  const loading = async (action: () => Promise<unknown>) => {
    await Promise.all([page.waitForEvent('load'), action()])
    // A refreshing page is not the end of the way.
    await page.waitForFunction(`document.querySelector('meta[http-equiv]') === null`)
  }
  return {
    async type(url) {
      await plantCookies((target) => page.goto(target))
      await page.goto(url)
    },
    clickLink: () => loading(() => page.click('a')),
    submitForm: () => loading(() => page.click('button')),
    reload: () => loading(() => page.reload()),
    async fetch(url, init = {}) {
      await page.evaluate(
        // Without CORS headers the page may not read the answer; the request was sent all the same.
        async ([target, options]) => void (await fetch(target, options).catch(() => undefined)),
        [url, init] as const,
      )
    },
  }
}

const testBrowser = (): Actor => {
  const browser = createBrowser()
  return {
    async type(url) {
      await plantCookies((target) => browser.navigate(target))
      await browser.navigate(url)
    },
    clickLink: async (url) => void (await browser.navigate(url, { from: browser.page })),
    submitForm: async () => void (await browser.submitForm(browser.page)),
    reload: async () => void (await browser.reload()),
    fetch: async (url, init = {}) => void (await browser.fetch(url, init)),
  }
}

const plantCookies = async (
  go: (url: string) => Promise<BrowserResponse | unknown>,
): Promise<void> => {
  for (const site of [app, foreign]) await go(`${site.url}/cookies`)
}
