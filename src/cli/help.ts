/** Help texts of the command line. */

export const COMMAND_SUMMARIES = {
  serve: 'runs the gateway',
  check:
    'checks the configuration, asks provider and Redis, and prints what to register at the provider',
  sessions: 'lists or ends sessions of a gateway that runs',
  dev: 'runs the gateway and a development identity provider in front of your own app and API',
  init: 'writes a commented coatcheck.yaml and a compose snippet for your app',
  demo: 'runs the gateway with a provider, an API and an app to try it with',
} as const

export type CommandName = keyof typeof COMMAND_SUMMARIES

export const COMMAND_NAMES = Object.keys(COMMAND_SUMMARIES) as readonly CommandName[]

const widthOf = (names: readonly string[]): number => Math.max(...names.map((name) => name.length))

const rows = (entries: readonly (readonly [string, string])[]): string => {
  const width = widthOf(entries.map(([name]) => name))
  return entries.map(([name, meaning]) => `  ${name.padEnd(width)}  ${meaning}`).join('\n')
}

export const MAIN_HELP = `Coatcheck: a Backend-for-Frontend gateway for single-page apps.

Usage: coatcheck <command> [options]

Commands:
${rows(Object.entries(COMMAND_SUMMARIES))}

Options:
${rows([
  ['-h, --help', 'prints this, or what a command can do: coatcheck <command> --help'],
  ['-V, --version', 'prints the version'],
])}

Settings come from COATCHECK_* variables, from a YAML file, or from both: docs/configuration.md lists them.
Exit codes: 0 done, 64 wrong usage, 69 an address is not free or nobody answers, 70 internal fault, 78 wrong configuration.`

const CONFIG_OPTION_ROWS = [
  [
    '-c, --config FILE',
    'configuration file; else COATCHECK_CONFIG, else coatcheck.yaml in the working directory, if it is there',
  ],
  ['-h, --help', 'prints this'],
] as const

const CONFIG_ROWS = rows(CONFIG_OPTION_ROWS)

export const SERVE_HELP = `Usage: coatcheck serve [--config FILE]

Runs the gateway until SIGTERM or SIGINT. It starts, and says so in one line, while the provider, Redis or the
upstreams are still down. After SIGTERM readiness fails first, then requests finish, then it exits with 0. On SIGHUP it reads
secret files again at once instead of within 10 seconds; without any, SIGHUP ends it.

Options:
${CONFIG_ROWS}`

export const CHECK_HELP = `Usage: coatcheck check [--config FILE]

Checks the configuration as serve would read it and lists every problem, or prints what to register at the provider.
Then it asks the provider and Redis: what they answer may be a problem too, such as another issuer or a refused
password. Problems end it with 78; a provider or a Redis that is silent is reported, and none. Nothing is started.

Options:
${CONFIG_ROWS}`

export const SESSIONS_HELP = `Usage: coatcheck sessions list [--subject SUB | --sid SID] [--issuer ISSUER] [--config FILE]
       coatcheck sessions end --session NAME | --subject SUB | --sid SID | --all [--issuer ISSUER] [--config FILE]

Asks the gateway that runs at operations.listen (COATCHECK_OPERATIONS_LISTEN) with the first of its admin tokens
(COATCHECK_ADMIN_TOKEN); no other setting is needed. list prints one JSON object per session; its member session is what --session takes. What is
ended is refused by every replica within a second, and a sign-in that is under way ends with it.

Options:
${rows([
  ['--subject SUB', 'sessions of one user, by the provider’s sub claim'],
  ['--sid SID', 'sessions of one sign-in at the provider, by its sid claim'],
  ['--issuer ISSUER', 'provider that sub and sid belong to; else the configured one'],
  ['--session NAME', 'one session'],
  ['--all', 'every session of every user'],
])}
${CONFIG_ROWS}`

export const DEV_HELP = `Usage: coatcheck dev [--spa URL] [--api URL] [--config FILE] [-- COMMAND …]

Runs the gateway on http://localhost:3000 with a development identity provider (3100) in front of your own app and API,
without a file or a secret: sessions live in memory. Calls to /api/… reach the API with an access token, everything else
reaches the app, hot reload included. It prints what the API must be told to accept those tokens. The first call that
fails is explained here, with the setting to change.

The command after -- is started with it, for example -- npm run dev, and each ends with the other.

Accounts: alice / alice and bob / bob, or those of coatcheck.users.yaml, with whatever claims (roles, groups) you give
them. With COATCHECK_ISSUER that provider is used instead. All settings of serve apply: docs/configuration.md. Ports that
are taken are never replaced: COATCHECK_LISTEN and COATCHECK_DEV_PROVIDER_LISTEN choose others.

Options:
${rows([
  [
    '--spa URL',
    'server of your app, or the directory of its files (COATCHECK_SPA); else http://localhost:5173',
  ],
  ['--api URL', 'your API (COATCHECK_UPSTREAM); else http://localhost:4000'],
  ...CONFIG_OPTION_ROWS,
])}`

export const INIT_HELP = `Usage: coatcheck init [--spa URL] [--api URL]

Writes coatcheck.yaml, with a comment at each setting, and compose.coatcheck.yaml, for the app in the working directory.
What is there already stays as it is. Nothing is asked and nothing is started.

Options:
${rows([
  [
    '--spa URL',
    'development server of your app; else the usual one of the tool that package.json names',
  ],
  ['--api URL', 'your API; else http://localhost:4000'],
  ['-h, --help', 'prints this'],
])}`
