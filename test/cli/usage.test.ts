/** What can be typed, and what a mistake says: always on standard error, always with 64. */

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { runCoatcheck } from './run-coatcheck.ts'

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string }

test.each([
  [['--version'], new RegExp(`^${version.replaceAll('.', '\\.')}$`)],
  [['-V'], /^\d+\.\d+\.\d+$/],
  [['--help'], /Usage: coatcheck <command>/],
  [['-h'], /serve .*\n.*check .*\n.*sessions .*\n.*dev .*\n.*init .*\n.*demo /],
  [['serve', '--help'], /Usage: coatcheck serve \[--config FILE\]/],
  [['check', '-h'], /Usage: coatcheck check \[--config FILE\]/],
  [['sessions', '--help'], /Usage: coatcheck sessions list /],
  [['sessions', 'end', '-h'], /coatcheck sessions end /],
  [['dev', '-h'], /Usage: coatcheck dev .*-- COMMAND/],
  [['check', '--config', 'no.yaml', '--help'], /Usage: coatcheck check/],
])('%j answers with 0', async (args, output) => {
  const { code, stdout, stderr } = await runCoatcheck(args)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(stdout).toMatch(output)
})

test.each([
  [[], /a command is missing: serve, check, sessions, dev, init, demo\nTry: coatcheck --help$/],
  [['chek'], /unknown command "chek"; the nearest is check\nTry: coatcheck --help$/],
  [['--verison'], /unknown option --verison; the nearest is --version/],
  [
    ['check', '--confg', 'x'],
    /unknown option --confg; the nearest is --config\nTry: coatcheck check --help$/,
  ],
  [['check', '--__proto__'], /unknown option --__proto__/],
  [['check', '-x'], /unknown option -x/],
  [['check', '--config'], /--config needs a value/],
  [['check', '--config='], /--config needs a value/],
  [['check', '--config', '--help'], /--config needs a value/],
  [['check', '--config', 'a', '--config', 'b'], /--config is there twice/],
  [['check', '--help=yes'], /--help takes no value/],
  [['check', 'a\u001b[2Jb'], /check takes no argument "a\?\[2Jb"/],
  [['serve', '--', 'x'], /serve takes no argument "x"/],
  [
    ['demo', '--replicas', '0'],
    /--replicas takes a number from 1 to 4, not "0"\nTry: .* demo --help$/,
  ],
  [['dev', '--api'], /--api needs a value/],
  [['dev', 'npm', 'run', 'dev'], /put -- before the command: coatcheck dev -- npm run dev\n/],
  [['demo', '--replicas', '5'], /--replicas takes a number from 1 to 4, not "5"/],
  [['demo', '--replicas', 'two\u001b'], /--replicas takes a number from 1 to 4, not "two\?"/],
  [['demo', '--replicas'], /--replicas needs a value/],
])('%j is refused with 64', async (args, message) => {
  const { code, stdout, stderr } = await runCoatcheck(args)
  expect({ code, stdout }).toEqual({ code: 64, stdout: '' })
  expect(stderr).toMatch(message)
})
