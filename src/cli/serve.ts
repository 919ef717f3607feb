/** `coatcheck serve`: load, listen, say so in one line; on a stop signal drain, then end with 0. */

import { hostPortText } from '../config/addresses.ts'
import type { Config } from '../config/config.ts'
import type { HostPort } from '../config/forms.ts'
import { loadConfig } from '../config/load.ts'
import { variableOf } from '../config/settings.ts'
import { watchSecrets } from '../config/watched.ts'
import {
  ListenError,
  type ListenerOptions,
  type ListeningServer,
  startListener,
} from '../edges/http/listener.ts'
import { createLogger } from '../edges/telemetry/logger.ts'
import { createGateway, type Gateway } from '../gateway.ts'
import { type Milliseconds, milliseconds, systemClock, toMs } from '../time.ts'
import { CONFIG_OPTIONS, configFileOf, parseArguments } from './arguments.ts'
import { SERVE_HELP } from './help.ts'
import { type Command, EXIT } from './io.ts'

export const serve: Command = async (argv, io) => {
  const values = parseArguments('serve', argv, CONFIG_OPTIONS)
  if (values.has('help')) {
    io.out(SERVE_HELP)
    return EXIT.ok
  }
  const stopSignal = io.stopSignal()
  const loaded = loadConfig({ env: io.env, cwd: io.cwd, ...configFileOf(values) })
  const { config } = loaded
  const logger = createLogger({ level: config.logging.level })
  const warn = (warning: string) => logger.notice('configuration', warning)
  loaded.warnings.forEach(warn)

  const gateway = createGateway(config, { logger })
  const watching = watchSecrets(loaded, { clock: systemClock, warn })
  // With nothing to read again it ends the process, as a terminal that closes expects.
  if (loaded.followedFiles.length > 0) io.onReloadSignal(watching.check)
  try {
    const servers = await startServers(config, gateway)
    await gateway.ready()
    io.out(`coatcheck listens on ${addressesText(servers)} for ${config.publicUrl}`)
    const signal = await stopSignal
    // Nobody balances load onto a process that a person stops by hand.
    const delay = signal === 'SIGTERM' ? toMs(config.drain.delay) : milliseconds(0)
    const { deadline } = config.drain
    io.out(`coatcheck stops on ${signal}, within ${deadline}s`)
    const cut = await drain(gateway, servers, { delay, deadline: toMs(deadline) })
    io.out(`coatcheck has stopped${cut === 0 ? '' : `; ${cutText(cut)}`}`)
    return EXIT.ok
  } catch (thrown) {
    if (!(thrown instanceof AddressUnavailable)) throw thrown
    io.err(thrown.message)
    await within(GIVING_UP_MS, gateway.close())
    return EXIT.unavailable
  } finally {
    watching.stop()
    await logger.flush()
  }
}

const cutText = (count: number): string =>
  count === 1
    ? '1 connection was cut, for its time was over (drain.deadline)'
    : `${count} connections were cut, for their time was over (drain.deadline)`

const GIVING_UP_MS = milliseconds(1000)

interface Servers {
  /** What browsers, or the proxy before us, connect to. */
  readonly open: ListeningServer
  /** Plain HTTP beside TLS. */
  readonly plain: ListeningServer | undefined
  readonly operations: ListeningServer | undefined
}

const addressesText = ({ open, plain }: Servers): string =>
  [open, ...(plain === undefined ? [] : [plain])]
    .map(({ address }) => hostPortText(address))
    .join(' and ')

/** Operations first, so that a probe finds the process alive while the rest is still to come. */
const startServers = async (config: Config, gateway: Gateway): Promise<Servers> => {
  const { operations, tls } = config
  const { listener, upgrade, limits, onError, onRefused } = gateway
  const started: ListeningServer[] = []
  const start = async (...args: Parameters<typeof listenOn>): Promise<ListeningServer> => {
    const server = await listenOn(...args)
    started.push(server)
    return server
  }
  try {
    return {
      operations:
        operations.listen === 'off'
          ? undefined
          : await start('operations.listen', operations.listen, {
              listener: gateway.operations,
              onError,
            }),
      open: await start('listen', config.listen, {
        listener,
        upgrade,
        limits,
        onError,
        onRefused,
        ...tlsOf(config),
      }),
      plain:
        tls.plainListen === undefined
          ? undefined
          : await start('tls.plainListen', tls.plainListen, {
              ...gateway.plain,
              limits,
              onError,
              onRefused,
            }),
    }
  } catch (thrown) {
    await Promise.all(started.map((server) => server.close()))
    throw thrown
  }
}

const tlsOf = ({ tls: { identity, minVersion } }: Config): Pick<ListenerOptions, 'tls'> =>
  identity === undefined ? {} : { tls: { identity, minVersion } }

/** Carries the words for the operator: which setting to change. */
class AddressUnavailable extends Error {}

const listenOn = async (
  setting: string,
  address: HostPort,
  server: Omit<ListenerOptions, 'address'>,
): Promise<ListeningServer> => {
  try {
    return await startListener({ ...server, address })
  } catch (thrown) {
    if (!(thrown instanceof ListenError)) throw thrown
    throw new AddressUnavailable(
      `coatcheck: ${thrown.message} (${thrown.code}): change ${setting} (${variableOf(setting)}), or free the address`,
      { cause: thrown },
    )
  }
}

/** Of the deadline, kept for what comes after the connections: refreshes, revocations, results not written yet. */
const REST_MS = 2_000

/**
 * Readiness fails first; then no new connections, and requests end; then refreshes and what they must still write.
 * Operations answer to the last. All of it within one deadline, counted from the signal. Resolves with the number of
 * connections that had not ended by themselves.
 */
const drain = async (
  gateway: Gateway,
  { open, plain, operations }: Servers,
  limits: { readonly delay: Milliseconds; readonly deadline: Milliseconds },
): Promise<number> => {
  const endsAt = systemClock.monotonicMs() + limits.deadline
  const left = () => milliseconds(Math.max(0, endsAt - systemClock.monotonicMs()))
  gateway.drain()
  const rest = Math.min(REST_MS, limits.deadline / 5)
  const drained = { delayMs: limits.delay, deadlineMs: limits.deadline - rest }
  const [cut, cutPlain = 0] = await Promise.all([
    open.drain({ ...drained, onClosed: gateway.endStreams }),
    plain?.drain(drained),
  ])
  await within(left(), gateway.close())
  await operations?.close()
  return cut + cutPlain
}

/** Gives up waiting, not the work: the process is about to end. */
const within = async (limit: Milliseconds, work: Promise<void>): Promise<void> => {
  const done = new AbortController()
  await Promise.race([work, systemClock.sleep(limit, done.signal)])
  done.abort()
}
