/** `coatcheck serve`: load, listen, say so in one line; on a stop signal drain, then end with 0. */

import { hostPortText } from '../config/addresses.ts'
import type { Config } from '../config/config.ts'
import type { HostPort } from '../config/forms.ts'
import { loadConfig } from '../config/load.ts'
import { variableOf } from '../config/settings.ts'
import { watchSecrets } from '../config/watched.ts'
import { ListenError, type ListeningServer, startListener } from '../edges/http/listener.ts'
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
    io.out(`coatcheck listens on ${hostPortText(servers.open.address)} for ${config.publicUrl}`)
    const signal = await stopSignal
    // Nobody balances load onto a process that a person stops by hand.
    const delay = signal === 'SIGTERM' ? toMs(config.drain.delay) : milliseconds(0)
    await drain(gateway, servers, { delay, deadline: toMs(config.drain.deadline) })
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

const GIVING_UP_MS = milliseconds(1000)

interface Servers {
  /** What browsers, or the proxy before us, connect to. */
  readonly open: ListeningServer
  readonly operations: ListeningServer | undefined
}

/** Operations first, so that a probe finds the process alive while the rest is still to come. */
const startServers = async (config: Config, gateway: Gateway): Promise<Servers> => {
  const { listen } = config.operations
  const operations =
    listen === 'off'
      ? undefined
      : await listenOn('operations.listen', listen, {
          listener: gateway.operations,
          onError: gateway.onError,
        })
  try {
    const { listener, upgrade, onError } = gateway
    return {
      open: await listenOn('listen', config.listen, { listener, upgrade, onError }),
      operations,
    }
  } catch (thrown) {
    await operations?.close()
    throw thrown
  }
}

/** Carries the words for the operator: which setting to change. */
class AddressUnavailable extends Error {}

const listenOn = async (
  setting: string,
  address: HostPort,
  server: Pick<Gateway, 'listener' | 'onError'> & Partial<Pick<Gateway, 'upgrade'>>,
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

/**
 * Readiness fails first; then no new connections, and requests end; then refreshes and what they must still write.
 * Operations answer to the last. All of it within one deadline, counted from the signal.
 */
const drain = async (
  gateway: Gateway,
  { open, operations }: Servers,
  limits: { readonly delay: Milliseconds; readonly deadline: Milliseconds },
): Promise<void> => {
  const endsAt = systemClock.monotonicMs() + limits.deadline
  const left = () => milliseconds(Math.max(0, endsAt - systemClock.monotonicMs()))
  gateway.drain()
  await open.drain({
    delayMs: limits.delay,
    deadlineMs: limits.deadline,
    onClosed: gateway.endStreams,
  })
  await within(left(), gateway.close())
  await operations?.close()
}

/** Gives up waiting, not the work: the process is about to end. */
const within = async (limit: Milliseconds, work: Promise<void>): Promise<void> => {
  const done = new AbortController()
  await Promise.race([work, systemClock.sleep(limit, done.signal)])
  done.abort()
}
