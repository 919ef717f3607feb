/** The client's address: the peer's, or what trusted proxies in front of us say about it. */

import ipaddr from 'ipaddr.js'

/** Whether an address, in whatever spelling, is one of the trusted proxies'. */
export type TrustedProxies = (address: string) => boolean

/** Address of the connection's peer and all `X-Forwarded-For` lines joined by commas → one normal-form address. */
export type ClientAddress = (peerAddress: string, forwardedFor: string | undefined) => string

type Address = ipaddr.IPv4 | ipaddr.IPv6

/** More proxies than this are not in front of anybody: the walk ends there. */
const HOPS_MAX = 32
const TRUST_REMEMBERED_MAX = 1024

export const createTrustedProxies = (trustedCidrs: readonly string[]): TrustedProxies => {
  const trusted = trustedCidrs.map(parseCidr)
  const remembered = new Map<string, boolean>()
  return (address) => {
    const known = remembered.get(address)
    if (known !== undefined) return known
    const parsed = parseAddress(address)
    const answer = parsed !== undefined && trusted.some((cidr) => contains(cidr, parsed))
    if (remembered.size >= TRUST_REMEMBERED_MAX) remembered.clear()
    remembered.set(address, answer)
    return answer
  }
}

/**
 * Walks `X-Forwarded-For` from the right, as long as who wrote the entry is trusted, and stops at the first
 * address that is not. Everything left of it was written by the client. An entry that is no address ends
 * the walk at the last good one: whoever passed it on cannot be relied on for what is left of it.
 */
export const createClientAddress = (trustedCidrs: readonly string[]): ClientAddress => {
  if (trustedCidrs.length === 0) return (peerAddress) => normalForm(peerAddress)
  const isTrusted = createTrustedProxies(trustedCidrs)
  return (peerAddress, forwardedFor) => {
    let address = normalForm(peerAddress)
    let rest = forwardedFor
    for (let hop = 0; hop < HOPS_MAX && rest !== undefined && isTrusted(address); hop += 1) {
      const comma = rest.lastIndexOf(',')
      const entry = parseAddress(withoutPort(rest.slice(comma + 1)))
      if (entry === undefined) break
      address = entry.toString()
      rest = comma === -1 ? undefined : rest.slice(0, comma)
    }
    return address
  }
}

/** Dual-stack sockets report IPv4 peers as `::ffff:192.0.2.1`; those are cut without being parsed. */
const normalForm = (address: string): string => {
  if (!address.includes(':')) return address
  if (/^::ffff:[0-9.]+$/.test(address)) return address.slice(7)
  return parseAddress(address)?.toString() ?? address
}

/** Without IPv4's octal, hexadecimal and short forms: those are garbage here, not addresses. */
const parseAddress = (text: string): Address | undefined => {
  if (!text.includes(':')) {
    return ipaddr.IPv4.isValidFourPartDecimal(text) ? ipaddr.IPv4.parse(text) : undefined
  }
  // A zone names an interface of one machine; it says nothing about the client.
  const withoutZone = text.replace(/%[\w.-]+$/, '')
  return ipaddr.IPv6.isValid(withoutZone) ? ipaddr.process(withoutZone) : undefined
}

/** Some proxies write `192.0.2.1:4711`, `[2001:db8::1]:4711` or quotes around either. */
const withoutPort = (entry: string): string => {
  const bare = entry.trim().replace(/^"(.*)"$/, '$1')
  const match = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(bare) ?? /^([0-9.]+):\d{1,5}$/.exec(bare)
  return match?.[1] ?? bare
}

interface Cidr {
  readonly address: Address
  readonly bits: number
}

const parseCidr = (cidr: string): Cidr => {
  if (!cidr.includes('/')) {
    const address = parseAddress(cidr)
    if (address === undefined) throw new Error(`${cidr} is not an address or CIDR range`)
    return { address, bits: address.kind() === 'ipv4' ? 32 : 128 }
  }
  const [address, bits] = ipaddr.parseCIDR(cidr)
  return { address, bits }
}

const contains = (cidr: Cidr, address: Address): boolean => {
  if (cidr.address.kind() !== address.kind()) return false
  return address.match(cidr.address as ipaddr.IPv4 & ipaddr.IPv6, cidr.bits)
}
