/** `coatcheck serve`: load, listen, say so in one line; on a stop signal drain, then end with 0. */

import { hostPortText } from '../config/addresses.ts'
import { loadConfig } from '../config/load.ts'
import { watchSecrets } from '../config/watched.ts'
import { createLogger } from '../edges/telemetry/logger.ts'
import { createGateway, type Gateway } from '../gateway.ts'
import { type Milliseconds, milliseconds, systemClock, toMs } from '../time.ts'
import { CONFIG_OPTIONS, configFileOf, parseArguments } from './arguments.ts'
import { SERVE_HELP } from './help.ts'
import { type Command, EXIT } from './io.ts'
import { AddressUnavailable, type Servers, startServers } from './servers.ts'

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

const addressesText = ({ open, plain }: Servers): string =>
  [open, ...(plain === undefined ? [] : [plain])]
    .map(({ address }) => hostPortText(address))
    .join(' and ')

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
