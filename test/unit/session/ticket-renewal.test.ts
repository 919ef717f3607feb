/** A ticket under an outdated secret is set again in the form that its browser keeps. */

import { expect, it } from 'vitest'
import { createKeyRing } from '../../../src/session/key-ring.ts'
import { createSealer } from '../../../src/session/seal.ts'
import { createCookieForms } from '../../../src/session/session-cookie.ts'
import { createTicketSealer, newTicket } from '../../../src/session/ticket.ts'
import { createTicketRenewal } from '../../../src/session/ticket-renewal.ts'
import type { OpenSession, Vault } from '../../../src/session/vault.ts'
import { seconds, systemClock } from '../../../src/time.ts'

const [FORMER, CURRENT] = ['f'.repeat(32), 'c'.repeat(32)]
const ring = { current: createKeyRing([CURRENT, FORMER]) }
const formerRing = { current: createKeyRing([FORMER]) }
const tickets = createTicketSealer(createSealer(ring), ring, seconds(3600), systemClock)
const forms = createCookieForms('http://localhost:3000', true, 'plain')
const vault = { isOutdated: () => false } as unknown as Vault
const renewal = createTicketRenewal(ring, tickets, vault, () => {}, {
  forms,
  sameSite: 'Strict',
  maxAge: undefined,
})

const renewed = async (form: 'prefixed' | 'plain', ringId: number) => {
  const open = { ticket: { ...newTicket(undefined), form } } as unknown as OpenSession
  return { open, lines: (await renewal.renewed(open, ringId)) ?? [] }
}

it('prefixed for prefixed, and nothing under the current secret', async () => {
  const { lines } = await renewed('prefixed', formerRing.current.sealing.id)
  expect(lines).toEqual([
    expect.stringMatching(/^__Host-Http-coatcheck-3000=Fe26.*; Secure; HttpOnly; SameSite=Strict$/),
  ])
  expect((await renewed('prefixed', ring.current.sealing.id)).lines).toEqual([])
})

it('plain for plain, which opens as a plain one again, and always the probe', async () => {
  const { open, lines } = await renewed('plain', formerRing.current.sealing.id)
  expect(lines).toEqual([
    forms.probe,
    expect.stringMatching(/^coatcheck-3000=Fe26[^;]*; Path=\/; HttpOnly; SameSite=Strict$/),
  ])
  const seal = lines[1]?.slice('coatcheck-3000='.length).split(';', 1)[0] ?? ''
  expect(await tickets.open(seal)).toMatchObject({ kind: 'opened', ticket: open.ticket })
  expect((await renewed('plain', ring.current.sealing.id)).lines).toEqual([forms.probe])
})
