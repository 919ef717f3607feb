/** The plot of the benchmark of requests: processor time by target as bars, percentiles of latency as dots, readable on light and dark. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { RESULTS } from './results.ts'

export interface PlottedTarget {
  readonly target: string
  /** NaN where there is nothing to measure. */
  readonly microsPerRequest: number
  /** To the reference: quartiles. */
  readonly ratio: readonly [lower: number, median: number, upper: number]
  readonly latencyMs: { readonly p50: number; readonly p90: number; readonly p99: number }
}

export interface PlottedScenario {
  readonly scenario: string
  readonly figures: readonly PlottedTarget[]
}

const WIDTH = 980
const ROW = 26
const LABELS_END = 224
const BARS = { from: 244, to: 560 }
const DOTS = { from: 676, to: 950 }
const HEAD = 92
const BETWEEN = 66

const STYLE = `
  .page { fill: #faf8f5; } .ink { fill: #1c1b22; } .soft { fill: #5d5b66; } .grid { stroke: #e4dfd8; }
  .ours { fill: #b4511c; } .peer { fill: #a9a3b5; } .reference { fill: #5d5b66; }
  .range { stroke: #5d5b66; stroke-width: 1.5; } .ours-range { stroke: #b4511c; stroke-width: 2; }
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; }
  .title { font-size: 18px; font-weight: 600; } .head { font-size: 14px; font-weight: 600; } .small { font-size: 11.5px; }
  .strong { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #17161b; } .ink { fill: #f1eee9; } .soft { fill: #aaa5b0; } .grid { stroke: #37343f; }
    .ours { fill: #f0a277; } .peer { fill: #6d6879; } .reference { fill: #aaa5b0; }
    .range { stroke: #aaa5b0; } .ours-range { stroke: #f0a277; }
  }`

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`)

const text = (x: number, y: number, classes: string, content: string, anchor = 'start') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" class="${classes}" text-anchor="${anchor}">${escaped(content)}</text>`

const line = (
  classes: string,
  [x1, y1]: readonly [number, number],
  [x2, y2]: readonly [number, number],
) =>
  `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" class="${classes}"/>`

const colourOf = (target: string): 'ours' | 'peer' | 'reference' => {
  if (target.startsWith('coatcheck')) return 'ours'
  return target.startsWith('bare') ? 'reference' : 'peer'
}

/** A number as a person would round it. */
const plain = (value: number): string => (value < 10 ? value.toFixed(1) : value.toFixed(0))

const bar = (
  { target, microsPerRequest, ratio }: PlottedTarget,
  y: number,
  most: number,
): string[] => {
  if (!Number.isFinite(microsPerRequest))
    return [text(BARS.from + 4, y + 4, 'soft small', 'nothing in between')]
  const perMicro = (BARS.to - BARS.from) / most
  const end = BARS.from + microsPerRequest * perMicro
  const label = `${plain(microsPerRequest)} µs`
  return [
    `<rect x="${BARS.from}" y="${y - 8}" width="${Math.max(1, end - BARS.from).toFixed(1)}" height="16" rx="2" class="${colourOf(target)}"/>`,
    text(end + 7, y + 4, 'ink small strong', label),
    text(end + 17 + label.length * 6.3, y + 4, 'soft small', `${ratio[1].toFixed(2)} ×`),
  ]
}

/** Latencies span two orders of magnitude: a logarithmic axis. */
const logScale = (figures: readonly PlottedTarget[]) => {
  const lowest = Math.log10(Math.min(...figures.map(({ latencyMs }) => latencyMs.p50)))
  const highest = Math.log10(Math.max(...figures.map(({ latencyMs }) => latencyMs.p99)))
  const [from, to] = [Math.floor(lowest * 3) / 3, Math.ceil(highest * 3) / 3]
  const at = (ms: number) =>
    DOTS.from + ((Math.log10(ms) - from) / (to - from)) * (DOTS.to - DOTS.from)
  const ticks = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000].filter(
    (ms) => Math.log10(ms) >= from - 0.01 && Math.log10(ms) <= to + 0.01,
  )
  return { at, ticks }
}

const dots = ({ target, latencyMs }: PlottedTarget, y: number, at: (ms: number) => number) => {
  const colour = colourOf(target)
  const circle = (ms: number, radius: number) =>
    `<circle cx="${at(ms).toFixed(1)}" cy="${y}" r="${radius}" class="${colour}"/>`
  return [
    line(
      colour === 'ours' ? 'ours-range' : 'range',
      [at(latencyMs.p50), y],
      [at(latencyMs.p99), y],
    ),
    circle(latencyMs.p50, 5),
    circle(latencyMs.p90, 3.5),
    circle(latencyMs.p99, 3.5),
  ]
}

const panel = ({ scenario, figures }: PlottedScenario, top: number): string[] => {
  const most = Math.max(
    ...figures.map(({ microsPerRequest }) => microsPerRequest).filter(Number.isFinite),
  )
  const { at, ticks } = logScale(figures)
  const first = top + 30
  const bottom = first + figures.length * ROW - ROW / 2
  const rows = figures.flatMap((figure, row) => {
    const y = first + row * ROW
    const classes = colourOf(figure.target) === 'ours' ? 'ink strong' : 'ink'
    return [
      text(LABELS_END, y + 4, classes, figure.target, 'end'),
      ...bar(figure, y, most),
      ...dots(figure, y, at),
    ]
  })
  return [
    text(20, top, 'ink head', scenario),
    text(BARS.from, top, 'soft small', 'CPU per request, and that as a multiple of the bare proxy'),
    text(DOTS.from, top, 'soft small', 'latency at full load, ms: p50 (large), p90, p99'),
    ...ticks.flatMap((ms) => [
      line('grid', [at(ms), top + 14], [at(ms), bottom]),
      text(at(ms), bottom + 14, 'soft small', String(ms), 'middle'),
    ]),
    ...rows,
  ]
}

export const requestsPlot = (scenarios: readonly PlottedScenario[], caption: string): string => {
  let top = HEAD
  const panels = scenarios.flatMap((scenario) => {
    const drawn = panel(scenario, top)
    top += scenario.figures.length * ROW + BETWEEN
    return drawn
  })
  const height = top - 18
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">
<title>What a proxied request costs, by gateway</title>
<style>${STYLE}
</style>
<rect width="${WIDTH}" height="${height}" rx="8" class="page"/>
${[text(20, 34, 'ink title', 'What a proxied request costs'), text(20, 56, 'soft small', caption), ...panels].join('\n')}
</svg>
`
}

export const writeRequestsPlot = (scenarios: readonly PlottedScenario[], caption: string): void => {
  mkdirSync(RESULTS, { recursive: true })
  writeFileSync(`${RESULTS}latest.svg`, requestsPlot(scenarios, caption))
}
