/** The short form of `npm run test:chaos`: two kills, a frozen store and a provider outage under load. */

import { expect, test } from 'vitest'
import { runChaos } from '../support/chaos.ts'
import { SHORT_FORM } from '../support/chaos-scenes.ts'

test('chaos under load breaks no promise: no 401 but for what a kill excuses, nothing slow, all sessions usable', {
  timeout: 120_000,
}, async () => {
  const reports = await runChaos(SHORT_FORM, { sessions: 20, pauseMs: 100 })
  expect(reports.flatMap(({ broken }) => broken)).toEqual([])
  expect(reports).toHaveLength(SHORT_FORM.length)
})
