/** The client's address: what is believed, from whom. */

import { describe, expect, it } from 'vitest'
import { createClientAddress } from '../../../src/routing/client-address.ts'

describe('without trusted proxies', () => {
  const addressOf = createClientAddress([])

  it.each([
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:DB8::1', '2001:db8::1'],
    ['fe80::1%eth0', 'fe80::1'],
  ])('the peer %s is the client %s', (peer, expected) => {
    expect(addressOf(peer, undefined)).toBe(expected)
  })

  it('nothing that a peer says counts', () => {
    expect(addressOf('192.0.2.1', '198.51.100.1')).toBe('192.0.2.1')
  })
})

describe('behind trusted proxies', () => {
  const addressOf = createClientAddress(['10.0.0.0/8', '192.0.2.53', '2001:db8:1::/48', '::1'])

  it.each([
    ['no header', '10.0.0.1', undefined, '10.0.0.1'],
    ['an empty header', '10.0.0.1', '', '10.0.0.1'],
    ['one hop', '10.0.0.1', '198.51.100.1', '198.51.100.1'],
    ['a chain of proxies', '10.0.0.1', '198.51.100.1, 10.9.9.9,10.0.0.2', '198.51.100.1'],
    ['lines joined', '192.0.2.53', '203.0.113.9, 198.51.100.1,\t10.0.0.2', '198.51.100.1'],
    ['only proxies', '10.0.0.1', '10.0.0.3, 10.0.0.2', '10.0.0.3'],
    ['what the client wrote itself', '10.0.0.1', '1.1.1.1, 198.51.100.1', '198.51.100.1'],
    ['the client claims a proxy', '10.0.0.1', '10.7.7.7, 198.51.100.1', '198.51.100.1'],
    ['an untrusted peer', '198.51.100.9', '203.0.113.1', '198.51.100.9'],
    ['a mapped peer', '::ffff:10.0.0.1', '198.51.100.1', '198.51.100.1'],
    ['a mapped entry', '10.0.0.1', '198.51.100.1, ::ffff:10.0.0.2', '198.51.100.1'],
    ['IPv6', '2001:db8:1::5', '2001:DB8:2::9', '2001:db8:2::9'],
    ['loopback', '::1', '198.51.100.1', '198.51.100.1'],
    ['a port', '10.0.0.1', '198.51.100.1:4711', '198.51.100.1'],
    ['IPv6 with a port', '10.0.0.1', '[2001:db8:2::9]:443', '2001:db8:2::9'],
    ['IPv6 in brackets and quotes', '10.0.0.1', '"[2001:db8:2::9]"', '2001:db8:2::9'],
    ['garbage', '10.0.0.1', '198.51.100.1, unknown', '10.0.0.1'],
    ['garbage behind a proxy', '10.0.0.1', '198.51.100.1, <script>, 10.0.0.2', '10.0.0.2'],
    ['an empty entry', '10.0.0.1', '198.51.100.1,,10.0.0.2', '10.0.0.2'],
    ['octal', '10.0.0.1', '012.0.0.1', '10.0.0.1'],
    ['hexadecimal', '10.0.0.1', '0x0a000001', '10.0.0.1'],
    ['a number', '10.0.0.1', '167772161', '10.0.0.1'],
    ['a short form', '10.0.0.1', '10.1', '10.0.0.1'],
    ['a name', '10.0.0.1', 'localhost', '10.0.0.1'],
  ])('%s', (_name, peer, forwardedFor, expected) => {
    expect(addressOf(peer, forwardedFor)).toBe(expected)
  })

  it('the walk ends after 32 hops', () => {
    const chain = ['198.51.100.1', ...Array.from({ length: 100 }, (_, i) => `10.0.1.${i}`)]
    expect(addressOf('10.0.0.1', chain.join(','))).toBe('10.0.1.68')
  })

  it('a range that is none is refused at once', () => {
    expect(() => createClientAddress(['10.0.0.0/33'])).toThrow()
    expect(() => createClientAddress(['example.com'])).toThrow()
  })
})
