/** A real Redis server of the test's own, on a free loopback port and without persistence. */

import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Child, startChild } from './child.ts'
import { findExecutable } from './executable.ts'
import { freePort } from './free-port.ts'
import { waitFor, within } from './wait.ts'

export interface RedisServer {
  readonly url: string
  readonly port: number
  /** Changes with `restart`. */
  readonly pid: number
  /** Lines of the server's log since its last start. */
  readonly log: readonly string[]
  /** SIGSTOP: connections stay open and nothing is answered. */
  pause(): void
  resume(): void
  /** SIGKILL; the port stays reserved for `restart`. */
  kill(): Promise<void>
  /** Comes back empty on the same port. */
  restart(): Promise<void>
  flush(): Promise<void>
  close(): Promise<void>
}

interface RedisOptions {
  /** A port chosen before, e.g. to start the server after the gateway. */
  readonly port?: number
  /** The file that redis-server begins with, and writes to where it is a Sentinel. */
  readonly configFile?: string
  /** Further arguments of redis-server, e.g. `['--requirepass', 'x']`. */
  readonly args?: readonly string[]
}

export const startRedis = async (options: RedisOptions = {}): Promise<RedisServer> => {
  const executable = findExecutable('redis-server', 'valkey-server')
  if (executable === undefined) {
    throw new Error(
      'redis-server is not in PATH. Run: apt-get update && apt-get install -y redis-server',
    )
  }
  const port = options.port ?? (await freePort())
  const directory = await mkdtemp(join(tmpdir(), 'coatcheck-redis-'))
  const start = () => startServer(executable, port, directory, options)
  let server = await start()

  const resume = () => server.signal('SIGCONT')
  const kill = async () => {
    resume()
    await server.kill()
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    get pid() {
      return server.pid
    },
    get log() {
      return server.stdout
    },
    pause: () => server.signal('SIGSTOP'),
    resume,
    kill,
    async restart() {
      await kill()
      server = await start()
    },
    async flush() {
      const reply = await askRedis(port, 'FLUSHALL')
      if (reply !== '+OK') throw new Error(`FLUSHALL was answered by ${reply}`)
    },
    async close() {
      await kill()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

const startServer = async (
  executable: string,
  port: number,
  directory: string,
  { configFile, args = [] }: RedisOptions,
): Promise<Child> => {
  const server = await startChild(executable, [
    ...(configFile === undefined ? [] : [configFile]),
    ...['--bind', '127.0.0.1', '--port', String(port), '--dir', directory],
    ...['--save', '', '--appendonly', 'no', '--maxmemory-policy', 'noeviction'],
    ...args,
  ])
  try {
    await waitFor(`redis-server answers on port ${port}`, async () => {
      if (server.hasExited()) return 'exited' as const
      // With a password the refusal is an answer too.
      return /^(\+PONG|-NOAUTH)/.test(await askRedis(port, 'PING'))
    })
    if (server.hasExited()) throw new Error('redis-server ended at once')
  } catch (cause) {
    await server.kill()
    throw new Error(
      `redis-server did not start:\n${[...server.stdout, ...server.stderr].join('\n')}`,
      {
        cause,
      },
    )
  }
  return server
}

/** First line of the answer to an inline command; enough for commands that answer by a status. */
const askRedis = (port: number, command: string): Promise<string> => {
  const socket = connect(port, '127.0.0.1')
  const answered = new Promise<string>((resolve, reject) => {
    let received = ''
    socket.setEncoding('latin1')
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('Redis closed the connection')))
    socket.once('connect', () => socket.write(`${command}\r\n`))
    socket.on('data', (chunk: string) => {
      received += chunk
      const end = received.indexOf('\r\n')
      if (end >= 0) resolve(received.slice(0, end))
    })
  })
  return within(1_000, `Redis answers ${command}`, answered).finally(() => socket.destroy())
}
