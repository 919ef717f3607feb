/** `coatcheck serve` with TLS: both addresses, a certificate that is renewed, and files that cannot be used. */

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { expect, test } from 'vitest'
import { createAuthority } from '../support/certificates.ts'
import { freePort } from '../support/free-port.ts'
import { waitFor, within } from '../support/wait.ts'
import { emptyDirectory } from '../unit/config/minimal.ts'
import { runCoatcheck, SMALLEST, startCoatcheck } from './run-coatcheck.ts'

const authority = createAuthority()
const one = authority.issue('app.example.com')
const other = authority.issue('app.example.com')

const files = () => emptyDirectory({ 'tls.crt': one.cert, 'tls.key': one.key })

const variables = (directory: string) => ({
  ...SMALLEST,
  COATCHECK_OPERATIONS_LISTEN: 'off',
  COATCHECK_DRAIN_DELAY: '0s',
  COATCHECK_TLS_CERT: join(directory, 'tls.crt'),
  COATCHECK_TLS_KEY: join(directory, 'tls.key'),
})

/** What the gateway shows to a client that trusts the authority. */
const certificateAt = async (port: number): Promise<string | undefined> => {
  const socket = connect({
    host: '127.0.0.1',
    port,
    ca: authority.cert,
    servername: 'app.example.com',
  })
  await within(3_000, 'the handshake ends', once(socket, 'secureConnect'))
  const shown = socket.getPeerX509Certificate()?.toString().trim()
  socket.destroy()
  return shown
}

const locationAt = (port: number): Promise<string | undefined> =>
  new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path: '/a?b', headers: { accept: 'text/html' } }, (answer) => {
      answer.resume()
      resolve(answer.headers.location)
    }).once('error', reject)
  })

test('serves both addresses, shows a renewed certificate after SIGHUP, and ends with 0', {
  timeout: 40_000,
}, async () => {
  const directory = files()
  const [port, plainPort] = [await freePort(), await freePort()]
  const child = await startCoatcheck(['serve'], {
    ...variables(directory),
    COATCHECK_LISTEN: `127.0.0.1:${port}`,
    COATCHECK_TLS_PLAIN_LISTEN: `127.0.0.1:${plainPort}`,
  })
  const line = `coatcheck listens on 127.0.0.1:${port} and 127.0.0.1:${plainPort} for https://app.example.com`
  await waitFor('the line that says so', () => child.stdout.includes(line), { timeoutMs: 15_000 })
  expect(await certificateAt(port)).toBe(one.cert.trim())
  expect(await locationAt(plainPort)).toBe('https://app.example.com/a?b')

  writeFileSync(join(directory, 'tls.crt'), other.cert)
  writeFileSync(join(directory, 'tls.key'), other.key)
  child.signal('SIGHUP')
  await waitFor(
    'the renewed certificate is shown',
    async () => (await certificateAt(port)) === other.cert.trim(),
    { timeoutMs: 5_000 },
  )

  writeFileSync(join(directory, 'tls.key'), 'not a key')
  child.signal('SIGHUP')
  await waitFor(
    'the operator hears of it',
    () => child.stdout.some((said) => said.includes('The file that tls.key names must be')),
    { timeoutMs: 5_000 },
  )
  expect(await certificateAt(port)).toBe(other.cert.trim())

  child.signal('SIGTERM')
  expect(await child.exited).toEqual({ code: 0, signal: null })
  await expect(locationAt(plainPort)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  expect([...child.stdout, ...child.stderr].join('\n')).not.toMatch(/BEGIN|PRIVATE/)
})

test('check says what is spoken where, and names the file that cannot be used', async () => {
  const directory = files()
  const good = await runCoatcheck(['check'], {
    ...variables(directory),
    COATCHECK_TLS_PLAIN_LISTEN: '127.0.0.1:8080',
  })
  expect(good.code).toBe(0)
  expect(good.stdout).toMatch(/listens on +127\.0\.0\.1:3000, with TLS\n/)
  expect(good.stdout).toMatch(/plain HTTP +127\.0\.0\.1:8080, which leads to https\n/)

  writeFileSync(join(directory, 'tls.key'), other.key)
  const bad = await runCoatcheck(['check'], variables(directory))
  expect(bad.code).toBe(78)
  expect(bad.stderr).toContain('tls.key (COATCHECK_TLS_KEY) must be the key of tls.cert')
})
