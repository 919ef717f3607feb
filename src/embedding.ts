/** What a program that embeds the gateway may import; the rest of the package may change from release to release. */

export { type LoadedConfig, type LoadOptions, loadConfig } from './config/load.ts'
export { ConfigError, type Problem } from './config/problems.ts'
export {
  ListenError,
  type ListenerOptions,
  type ListeningServer,
  startListener,
} from './edges/http/listener.ts'
export { createGateway, type Gateway, type GatewayOptions } from './gateway.ts'
