/** The pages of the development provider: sign in, sign out, error. Plain forms that work without scripts. */

import { createHash } from 'node:crypto'
import { html, raw } from 'hono/html'

/** A page and the policy it needs, as `Content-Security-Policy`. */
export interface Page {
  readonly html: string
  readonly contentSecurityPolicy: string
}

export interface SignInPage {
  readonly action: string
  readonly clientId: string
  /** Origin that the form may lead to: `form-action` also covers the redirects after a submission. */
  readonly redirectOrigin: string
  readonly login: string | undefined
  readonly askForOneTimeCode: boolean
  readonly problem: string | undefined
  readonly hints: readonly string[]
  readonly oneTimeCodeHint: string
}

export interface SignOutPage {
  readonly host: string
  /** The form as oidc-provider made it, with its `xsrf` field and no button. */
  readonly form: string
  readonly redirectOrigin: string | undefined
  /** With a valid `id_token_hint` the question is settled (RP-Initiated Logout 1.0 §2). */
  readonly confirmed: boolean
}

export const signInPage = (page: SignInPage): Page =>
  layout({
    title: 'Sign in',
    formAction: page.redirectOrigin,
    body: html`
      <p class="for">to continue to <strong>${page.clientId}</strong></p>
      ${
        page.problem === undefined
          ? ''
          : html`<p class="problem" role="alert" id="problem">${page.problem}</p>`
      }
      <form method="post" action="${page.action}">
        <label for="login">Login</label>
        <input id="login" name="login" autocomplete="username" autocapitalize="none" spellcheck="false"
          required value="${page.login ?? ''}"${page.login === undefined ? raw(' autofocus') : ''}>
        <label for="password">Password</label>
        <input id="password" name="password" type="password" autocomplete="current-password"
          required${page.login === undefined ? '' : raw(' autofocus')}${page.problem === undefined ? '' : raw(' aria-describedby="problem"')}>
        ${
          page.askForOneTimeCode
            ? html`<label for="one_time_code">One-time code</label>
              <input id="one_time_code" name="one_time_code" inputmode="numeric"
                autocomplete="one-time-code" required>`
            : ''
        }
        <button type="submit">Sign in</button>
      </form>
      <form method="post" action="${page.action}">
        <button type="submit" class="quiet" name="cancel" value="yes">Cancel</button>
      </form>
      <aside>
        <p>Accounts for development, login and password:</p>
        <ul>${page.hints.map((hint) => html`<li><code>${hint}</code></li>`)}</ul>
        ${page.askForOneTimeCode ? html`<p>One-time code: <code>${page.oneTimeCodeHint}</code></p>` : ''}
      </aside>`,
  })

export const signOutPage = (page: SignOutPage): Page =>
  layout({
    title: 'Sign out',
    formAction: page.redirectOrigin,
    script: page.confirmed ? SUBMIT_SCRIPT : undefined,
    body: html`
      <p class="for">${page.confirmed ? 'Signing you out of' : 'Do you want to sign out of'} <strong>${page.host}</strong>${page.confirmed ? ' …' : '?'}</p>
      ${raw(withButtons(page))}`,
  })

export const messagePage = (title: string, message: string): Page =>
  layout({ title, body: html`<p class="for">${message}</p>` })

const withButtons = ({ form, confirmed }: SignOutPage): string =>
  form.replace(
    '</form>',
    `<button type="submit" name="logout" value="yes">Sign out</button>${
      confirmed ? '' : '<button type="submit" class="quiet">Stay signed in</button>'
    }</form>`,
  )

const SUBMIT_SCRIPT = `document.querySelector('button[name=logout]').click()`

const STYLE = `
:root { color-scheme: light dark; --paper: #eef1f6; --card: #fff; --ink: #1b2230; --soft: #5a6474;
  --line: #d4dae4; --field: #f8f9fb; --accent: #3548b5; --on-accent: #fff; --bad: #a3242f; --bad-paper: #fcecee }
@media (prefers-color-scheme: dark) { :root { --paper: #10131a; --card: #191e28; --ink: #e7eaf1; --soft: #9ba6b8;
  --line: #303848; --field: #12161e; --accent: #a3b1ff; --on-accent: #131a3a; --bad: #ffb0b5; --bad-paper: #3a1d22 } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; min-height: 100dvh; display: grid; place-items: center; padding: 1rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main { width: 100%; max-width: 24rem; padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 1rem; box-shadow: 0 1.5rem 3rem -2rem rgb(20 30 60 / .35) }
.where { margin: 0 0 1.25rem; color: var(--soft); font-size: .8125rem; letter-spacing: .02em }
.where::before { content: ""; display: inline-block; width: .5rem; height: .5rem; margin-right: .5rem;
  border-radius: 50%; background: var(--accent) }
h1 { margin: 0; font-size: 1.625rem; line-height: 1.2; letter-spacing: -.01em }
.for { margin: .25rem 0 1.5rem; color: var(--soft); overflow-wrap: anywhere }
.for strong { color: var(--ink); font-weight: 600 }
label { display: block; margin: 0 0 .375rem; font-size: .875rem; font-weight: 600 }
input { width: 100%; margin: 0 0 1rem; padding: .625rem .75rem; font: inherit; color: inherit;
  background: var(--field); border: 1px solid var(--line); border-radius: .5rem }
button { width: 100%; margin: .5rem 0 0; padding: .75rem; font: inherit; font-weight: 600; cursor: pointer;
  color: var(--on-accent); background: var(--accent); border: 1px solid var(--accent); border-radius: .5rem }
button.quiet { color: var(--ink); background: none; border-color: var(--line) }
button:hover { filter: brightness(1.08) }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
.problem { margin: 0 0 1.25rem; padding: .625rem .75rem; color: var(--bad); background: var(--bad-paper); border-radius: .5rem }
aside { margin-top: 1.75rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .875rem }
aside p { margin: 0 0 .375rem }
aside ul { margin: 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .375rem .5rem }
code { padding: .125rem .5rem; font: .8125rem ui-monospace, monospace; color: var(--ink); background: var(--field);
  border: 1px solid var(--line); border-radius: .375rem }
`

const sourceHash = (source: string): string =>
  `'sha256-${createHash('sha256').update(source).digest('base64')}'`

const layout = (page: {
  readonly title: string
  readonly body: unknown
  readonly formAction?: string | undefined
  readonly script?: string | undefined
}): Page => ({
  contentSecurityPolicy: [
    "default-src 'none'",
    `style-src ${sourceHash(STYLE)}`,
    ...(page.script === undefined ? [] : [`script-src ${sourceHash(page.script)}`]),
    `form-action 'self'${page.formAction === undefined ? '' : ` ${page.formAction}`}`,
    "frame-ancestors 'none'",
    "base-uri 'none'",
  ].join('; '),
  html: String(html`<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>${page.title} · Development identity provider</title>
  <style>${raw(STYLE)}</style>
</head>
<body>
  <main>
    <p class="where">Development identity provider</p>
    <h1>${page.title}</h1>
    ${page.body}
  </main>
  ${page.script === undefined ? '' : html`<script>${raw(page.script)}</script>`}
</body>
</html>
`),
})
