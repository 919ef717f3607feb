/** Writes what is generated from the settings' schema: docs/configuration.md and docs/coatcheck.schema.json. `--check` only compares. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import {
  jsonSchema,
  SETTINGS,
  type Setting,
  SPA_LOCATIONS,
  SPA_VARIABLE,
} from '../src/config/settings.ts'

const documents: Readonly<Record<string, () => string>> = {
  'docs/configuration.md': () => configurationPage(),
  'docs/coatcheck.schema.json': () => `${JSON.stringify(jsonSchema(), undefined, 2)}\n`,
}

const configurationPage = (): string => `# Configuration

<!-- Written by "npm run docs" from src/config/schema.ts. Changes belong there. -->

Environment variables alone are enough, a YAML file alone is too, and both go together: a variable overrides the
file, which overrides the default. \`coatcheck check\` lists every problem at once, asks the provider and Redis, and
prints what to register. Wrong settings end with exit code 78, and no message ever repeats a value.

## The smallest sidecar

\`\`\`sh
COATCHECK_PUBLIC_URL=https://app.example.com
COATCHECK_ISSUER=https://login.example.com/realms/shop
COATCHECK_CLIENT_ID=shop-web
COATCHECK_CLIENT_SECRET_FILE=/run/secrets/client-secret
COATCHECK_UPSTREAM=http://127.0.0.1:8080
COATCHECK_SECRET_FILE=/run/secrets/coatcheck-secret
\`\`\`

The browser's calls to \`/api/…\` then reach \`http://127.0.0.1:8080/api/…\` with the user's access token. The same as a
file, which also serves the app and keeps sessions in Redis:

\`\`\`yaml
# yaml-language-server: $schema=./node_modules/coatcheck/docs/coatcheck.schema.json
publicUrl: https://app.example.com
issuer: https://login.example.com/realms/shop
clientId: shop-web
upstream: http://127.0.0.1:8080
redis:
  url: redis://127.0.0.1:6379
spa:
  directory: ./dist
  csp: strict
\`\`\`

## How settings are written

- **Variables** come from the path in YAML: \`session.idle\` is \`COATCHECK_SESSION_IDLE\`, \`session.sameSite\` is
  \`COATCHECK_SESSION_SAME_SITE\`. Lists are separated by commas. An empty variable counts as absent.
- **Secret files**: any variable with \`_FILE\` at its end names a file with the value, one newline at its end removed.
  A variable and its \`_FILE\` together are an error. Files are read again every 10 seconds, and at once on SIGHUP, by path,
  so that swapped secret mounts are seen ([key-rotation.md](key-rotation.md)): \`clientSecret\`, \`secret\`, \`redis.url\` and \`admin.token\` follow them; for the other settings a change is only
  logged and takes effect with the next start. A new content that cannot be used changes nothing and is logged.
  The files that \`redis.tls.ca\`, \`redis.tls.cert\` and \`redis.tls.key\` name are followed likewise.
- **The file** is what \`--config\` names, else what \`COATCHECK_CONFIG\` names, else \`coatcheck.yaml\` in the working
  directory if it is there. Unknown and repeated keys are errors, and YAML aliases are refused.
- **Durations** have a unit: \`500ms\`, \`45s\`, \`30m\`, \`8h\`, \`7d\`. **Sizes** too: \`64KiB\`, \`10MiB\`.
- **Unknown variables** that begin with \`COATCHECK_\` are errors, except the service links that Kubernetes sets
  (\`*_SERVICE_HOST\`, \`*_SERVICE_PORT*\`, \`*_PORT\`, \`*_PORT_<n>_*\`), which are ignored.
- \`${SPA_VARIABLE}\` stands for \`spa.upstream\` when it begins with \`http://\` or \`https://\`, and for \`spa.directory\`
  otherwise. A variable that says where the app is overrides whichever of the two the file has.

## Settings

${table(SETTINGS.filter(({ variable }) => variable !== undefined))}

## Routes

\`routes\` is a list in the file, without variables. \`upstream\` and \`apiPaths\` make routes of the same kind, with these
defaults and WebSocket. The longest path wins. Routes of one path must differ in their methods; one without
\`methods\` takes those that no other names.

${table(SETTINGS.filter(({ variable }) => variable === undefined))}

## Content-Security-Policy of the app

[spa-files.md](spa-files.md#security-headers) has both policies of \`spa.csp\`, and what component libraries, fonts, images and error
trackers need beyond \`strict\`.
`

const table = (settings: readonly Setting[]): string =>
  [
    '| Setting, variable | Written as | Default | Meaning |',
    '|---|---|---|---|',
    ...settings.map(row),
  ].join('\n')

const row = (setting: Setting): string => {
  const { path, variable, form, sentence } = setting
  const names = [path, variable, SPA_LOCATIONS.includes(path) ? SPA_VARIABLE : undefined]
  const name = names
    .filter((each) => each !== undefined)
    .map(code)
    .join('<br>')
  return `| ${[name, form.written, defaultOf(setting), sentence].map(cell).join(' | ')} |`
}

const defaultOf = ({ default: written, defaultInWords, required }: Setting): string => {
  if (defaultInWords !== undefined) return defaultInWords
  if (required) return 'required'
  return isNone(written) ? 'none' : code(written)
}

const isNone = (written: unknown): boolean =>
  written === undefined || (typeof written === 'object' && Object.keys(written ?? {}).length === 0)

const code = (written: unknown): string =>
  `\`${Array.isArray(written) ? written.join(',') : String(written)}\``

/** A pipe would end the cell. */
const cell = (text: string): string => text.replaceAll('|', '\\|')

const currentText = (file: URL): string | undefined =>
  existsSync(file) ? readFileSync(file, 'utf8') : undefined

const checkOnly = process.argv.includes('--check')
for (const [path, content] of Object.entries(documents)) {
  const file = new URL(`../${path}`, import.meta.url)
  if (!checkOnly) writeFileSync(file, content())
  else if (currentText(file) !== content()) {
    console.error(`${path} is not what src/config/schema.ts says: run "npm run docs"`)
    process.exitCode = 1
  }
}
