/** The listeners of a gateway: started together, and an address that is taken names its setting. */

import type { Config } from '../config/config.ts'
import type { HostPort } from '../config/forms.ts'
import { variableOf } from '../config/settings.ts'
import {
  ListenError,
  type ListenerOptions,
  type ListeningServer,
  startListener,
} from '../edges/http/listener.ts'
import type { Gateway } from '../gateway.ts'

export interface Servers {
  /** What browsers, or the proxy before us, connect to. */
  readonly open: ListeningServer
  /** Plain HTTP beside TLS. */
  readonly plain: ListeningServer | undefined
  readonly operations: ListeningServer | undefined
}

/** Operations first, so that a probe finds the process alive while the rest is still to come. */
export const startServers = async (config: Config, gateway: Gateway): Promise<Servers> => {
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
export class AddressUnavailable extends Error {}

const listenOn = async (
  setting: string,
  address: HostPort,
  server: Omit<ListenerOptions, 'address'>,
): Promise<ListeningServer> => {
  try {
    return await startListener({ ...server, address })
  } catch (thrown) {
    if (!(thrown instanceof ListenError)) throw thrown
    throw addressUnavailable(setting, thrown)
  }
}

export const addressUnavailable = (setting: string, fault: ListenError): AddressUnavailable =>
  new AddressUnavailable(
    `coatcheck: ${fault.message} (${fault.code}): change ${setting} (${variableOf(setting)}), or free the address`,
    { cause: fault },
  )
