/** The figures in README.md: written by the benchmark that took them, between two marks. */

import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { PlottedScenario } from './requests-plot.ts'

const README = fileURLToPath(new URL('../../README.md', import.meta.url))
const BEGIN = '<!-- figures: npm run bench -- requests -->'
const END = '<!-- /figures -->'

const cell = (micros: number, ratio: number): string =>
  Number.isFinite(micros) ? `${micros.toFixed(0)} µs, ${ratio.toFixed(2)} ×` : '–'

/** One row for each target, one column for each scenario. */
export const figuresTable = (scenarios: readonly PlottedScenario[], caption: string): string => {
  const [first] = scenarios
  if (first === undefined) return ''
  const rows = first.figures.map(({ target }) => {
    const cells = scenarios.map(({ figures }) => {
      const found = figures.find((figure) => figure.target === target)
      return found === undefined ? '–' : cell(found.microsPerRequest, found.ratio[1])
    })
    return `| ${[target, ...cells].join(' | ')} |`
  })
  return [
    `| CPU per request, × bare proxy | ${scenarios.map(({ scenario }) => scenario).join(' | ')} |`,
    `|---|${scenarios.map(() => '---|').join('')}`,
    ...rows,
    '',
    `${caption}.`,
  ].join('\n')
}

export const withFigures = (readme: string, figures: string): string => {
  const [from, to] = [readme.indexOf(BEGIN), readme.indexOf(END)]
  if (from === -1 || to < from) throw new Error('README.md has no place for the figures')
  return `${readme.slice(0, from + BEGIN.length)}\n${figures}\n${readme.slice(to)}`
}

export const writeFiguresToReadme = (
  scenarios: readonly PlottedScenario[],
  caption: string,
): void =>
  writeFileSync(README, withFigures(readFileSync(README, 'utf8'), figuresTable(scenarios, caption)))
