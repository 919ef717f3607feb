/**
 * A network of the benchmark's own, where the kernel's buffers of a connection are small. Over loopback they take two to
 * three megabytes for each slow client and side: a thousand of them use up what a machine has for all its connections
 * (`net.ipv4.tcp_mem`), and the kernel then drops and cuts connections, whosever they are.
 */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { findExecutable } from '../../test/support/executable.ts'

const MARK = 'COATCHECK_BENCH_NETWORK'
const BUFFER_BYTES_MAX = 65_536

/** Segments as on Ethernet: with loopback's of 64 KiB small buffers would wait for each other's acknowledgements. */
const ENTER = `
ip link set lo mtu 1500 up &&
echo 4096 16384 ${BUFFER_BYTES_MAX} > /proc/sys/net/ipv4/tcp_wmem &&
echo 4096 ${BUFFER_BYTES_MAX} ${BUFFER_BYTES_MAX} > /proc/sys/net/ipv4/tcp_rmem &&
exec "$@"`
const UNSHARE = ['--map-root-user', '--net', 'sh', '-c', ENTER, 'sh']

/**
 * Runs this very program again in a network of its own, and ends with it; comes back in there. Where the system does not
 * allow that it says so, and comes back at once.
 */
export const enterOwnNetwork = (): void => {
  if (process.env[MARK] !== undefined) return
  const unshare = findExecutable('unshare')
  if (unshare === undefined || spawnSync(unshare, [...UNSHARE, 'true']).status !== 0) {
    console.log(
      'No network of its own (unshare, ip): the buffers are as large as the system makes them.',
    )
    return
  }
  const { status } = spawnSync(
    unshare,
    [...UNSHARE, process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    { stdio: 'inherit', env: { ...process.env, [MARK]: 'own' } },
  )
  process.exit(status ?? 1)
}

/** Connections which the kernel has cut in this network as it had no memory left for any. */
export const cutForMemory = (): number => {
  const [names = [], counts = []] = readFileSync('/proc/net/netstat', 'latin1')
    .split('\n')
    .filter((line) => line.startsWith('TcpExt:'))
    .map((line) => line.split(' '))
  return Number(counts[names.indexOf('TCPAbortOnMemory')] ?? 0)
}
