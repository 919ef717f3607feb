/** `npm run test:chaos`: breaks real processes under load for minutes, counts every answer, and says what held. */

import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { type Report, runChaos } from '../test/support/chaos.ts'
import type { Tally } from '../test/support/chaos-load.ts'
import { LONG_FORM, type Scene } from '../test/support/chaos-scenes.ts'
import { prepareSystem, REDIS } from './test-system.ts'

const SESSIONS = 50
const PAUSE_MS = 200

const HELP = `npm run test:chaos [-- --only NAME[,NAME…]]

Two gateways, a Redis, a provider with 2-second tokens and ${SESSIONS} sessions at work, while:
${LONG_FORM.map(({ name, what }) => `  ${name.padEnd(17)}${what}`).join('\n')}

--only   these scenes alone
--help   this text

All of them take about five minutes. It needs a Redis server, and exits with 1 when a promise was broken.`

const main = async (): Promise<number> => {
  const options = parseOptions()
  if (typeof options !== 'string' && options.help) {
    console.log(HELP)
    return 0
  }
  const scenes = typeof options === 'string' ? options : chooseScenes(options.only)
  if (typeof scenes === 'string') {
    console.error(`${scenes}\n\n${HELP}`)
    return 64
  }
  const impossible = await prepareSystem([REDIS])
  if (impossible !== undefined) {
    console.error(impossible)
    return 1
  }

  const startedMs = performance.now()
  let playing: Scene | undefined
  const reports = await runChaos(scenes, {
    sessions: SESSIONS,
    pauseMs: PAUSE_MS,
    onProgress: (scene, event, tally) => {
      if (scene !== playing) console.log(`\n── ${scene.name}: ${scene.what}`)
      playing = scene
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
      console.log(`${seconds.padStart(7)} s  ${event.padEnd(44)}${countsOf(tally)}`)
    },
  })
  console.log(`\n${tableOf(reports)}`)
  console.log(lossesOf(reports))
  const broken = reports.flatMap(({ scene, broken }) =>
    broken.map((sentence) => `BROKEN  ${scene.name}: ${sentence}`),
  )
  console.log(broken.length === 0 ? 'Every promise held.' : broken.join('\n'))
  const minutes = ((performance.now() - startedMs) / 60_000).toFixed(1)
  console.log(`Node ${process.versions.node}, ${availableParallelism()} cores, ${minutes} min`)
  return broken.length === 0 ? 0 : 1
}

const parseOptions = (): { help: boolean; only: readonly string[] } | string => {
  try {
    const { values } = parseArgs({
      options: { only: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    })
    return { help: values.help ?? false, only: values.only?.split(',') ?? [] }
  } catch (error) {
    return (error as Error).message
  }
}

/** The scenes to play, or what is wrong with the names. */
const chooseScenes = (names: readonly string[]): readonly Scene[] | string => {
  const unknown = names.filter((name) => !LONG_FORM.some((scene) => scene.name === name))
  if (unknown.length > 0) return `no scene is called ${unknown.join(', ')}`
  return LONG_FORM.filter(({ name }) => names.length === 0 || names.includes(name))
}

const otherAnswers = ({ other }: Tally): number =>
  Object.values(other).reduce((sum, count) => sum + count, 0)

const countsOf = (tally: Tally): string =>
  [
    `${tally.requests} requests`,
    `${tally.good} 2xx`,
    `${tally.unavailable} 503`,
    `${tally.unauthorized} 401`,
    `${otherAnswers(tally)} other`,
    `${tally.cut} cut`,
    `slowest ${Math.round(tally.slowestMs)} ms`,
  ].join(', ')

/** In Markdown, so that it can be put into docs/reliability.md as it is. */
const tableOf = (reports: readonly Report[]): string => {
  const columns: readonly (readonly [string, (report: Report) => string | number])[] = [
    ['scene', ({ scene }) => scene.name],
    ['requests', ({ tally }) => tally.requests],
    ['2xx', ({ tally }) => tally.good],
    ['503', ({ tally }) => tally.unavailable],
    ['401', ({ tally }) => tally.unauthorized],
    ['other', ({ tally }) => otherAnswers(tally)],
    ['cut', ({ tally }) => tally.cut],
    [
      'slowest ms (its status)',
      ({ tally }) => `${Math.round(tally.slowestMs)} (${tally.slowestStatus})`,
    ],
    ['stall ms', ({ tally }) => Math.round(tally.stalledMs)],
    ['kills', ({ kills }) => kills],
    ['provider calls', ({ providerCalls }) => providerCalls],
    ['during the fault', ({ providerCallsMeanwhile }) => providerCallsMeanwhile],
    ['sessions before', ({ sessionsBefore }) => sessionsBefore],
    ['after', ({ sessionsBefore, losses }) => sessionsBefore - losses.length],
    ['all well after ms', ({ recoveredAfterMs }) => recoveredAfterMs],
  ]
  const row = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |`
  return [
    row(columns.map(([title]) => title)),
    row(columns.map(() => '---')),
    ...reports.map((report) => row(columns.map(([, cell]) => cell(report)))),
    '',
  ].join('\n')
}

const lossesOf = (reports: readonly Report[]): string =>
  reports
    .flatMap(({ scene, losses }) =>
      losses.map(({ session, reason, killedAt, presentedAfterMs }) => {
        const excuse =
          killedAt === undefined
            ? 'no kill excuses it'
            : `the provider had spent its token for the process killed at ${new Date(killedAt).toISOString()}`
        const times = presentedAfterMs.map((ms) => `${(ms / 1000).toFixed(1)} s`).join(', ')
        return `lost in ${scene.name}: ${session}, ${reason ?? 'no reason in any log'}; ${excuse}, and saw that token at ${times}`
      }),
    )
    .join('\n')

process.exitCode = await main()
