/** Pages for people name only what exists: settings, variables, error codes, files, headings; their examples load. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { SETTING_BY_PATH } from '../../src/config/settings.ts'
import { KNOWN_VARIABLES } from '../../src/config/variables.ts'
import { ERRORS } from '../../src/errors.ts'
import { parseTarget } from '../../src/routing/path.ts'
import { compileRoutes, matchRoute, upstreamPath } from '../../src/routing/route-table.ts'
import { loadYaml } from '../unit/config/minimal.ts'
import { tableRows } from './markdown.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))
const text = (path: string) => readFileSync(join(repository, path), 'utf8')
const docs = readdirSync(join(repository, 'docs')).filter((name) => name.endsWith('.md'))
const pages = ['README.md', 'examples/README.md', ...docs.map((name) => `docs/${name}`)]
const withoutCode = (markdown: string) => markdown.replace(/^```.*?^```$/gms, '')
const inBackticks = (markdown: string) =>
  [...markdown.matchAll(/`([^`\n]+)`/g)].map(([, word = '']) => word)

/** As GitHub makes them of headings. */
const anchorsOf = (page: string) =>
  [...withoutCode(text(page)).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )

test('README.md leads to every page', () => {
  const readme = text('README.md')
  expect(docs.filter((name) => !readme.includes(`(docs/${name})`))).toEqual([])
})

describe.each(pages)('%s', (page) => {
  test('links lead to files and headings that are there', () => {
    const links = [...withoutCode(text(page)).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)]+))?\)/g)]
    const dead = links.filter(([, path = '', anchor]) => {
      const target = path === '' ? page : join(dirname(page), path)
      if (!existsSync(join(repository, target))) return true
      return anchor !== undefined && !anchorsOf(target).includes(anchor)
    })
    expect(dead.map(([link]) => link)).toEqual([])
  })

  test('variables are ones that the gateway reads', () => {
    const named = text(page).match(/\bCOATCHECK_[A-Z_]*[A-Z]\b/g) ?? []
    const known = new Set(KNOWN_VARIABLES)
    const unknown = named.filter(
      (name) => !known.has(name.replace(/_FILE$/, '')) && !known.has(name),
    )
    expect([...new Set(unknown)]).toEqual([])
  })
})

const GROUPS = new Set([...SETTING_BY_PATH.keys()].flatMap((path) => path.split('.').slice(0, -1)))

/** A route's may be named without the list that it is in. */
const isSettingOrGroup = (word: string) =>
  [...SETTING_BY_PATH.keys()].some((path) =>
    [word, `routes[].${word}`].some((name) => path === name || path.startsWith(`${name}.`)),
  )

describe('settings in the guides', () => {
  const named = (words: readonly string[]) => words.filter((word) => /^[a-zA-Z.[\]]+$/.test(word))

  test.each([
    'moving-from-oauth2-proxy',
    'moving-from-duende-bff',
    'moving-from-tokens-in-the-browser',
  ])('docs/%s.md maps to settings that exist', (page) => {
    const rows = text(`docs/${page}.md`).match(/^\|.*\|$/gm) ?? []
    const start = rows.findIndex((row) => /\| Coatcheck \| differs \|/.test(row))
    expect(start).toBeGreaterThan(-1)
    const ofTable = rows.slice(start + 2).filter((row) => row.split(/(?<!\\)\|/).length === 5)
    const cells = ofTable.map((row) => row.split(/(?<!\\)\|/)[2] ?? '')
    const words = named(cells.flatMap(inBackticks)).filter((word) => !VALUES.includes(word))
    expect(words.length).toBeGreaterThan(5)
    expect(words.filter((word) => !SETTING_BY_PATH.has(word))).toEqual([])
  })

  test.each(pages)('%s names no setting of a group that has no such setting', (page) => {
    const words = named(inBackticks(withoutCode(text(page))))
    const ofGroups = words.filter((word) => {
      const [group = '', ...rest] = word.split('.')
      return rest.length > 0 && GROUPS.has(group) && !NAMES_OF_ANSWERS.includes(word)
    })
    expect(ofGroups.filter((word) => !isSettingOrGroup(word))).toEqual([])
  })
})

/** Values of settings that stand in the column of settings. */
const VALUES = ['user', 'none', 'session', 'anonymous']
/** Of `/bff/session`, whose words are those of groups. */
const NAMES_OF_ANSWERS = ['session.expiresIn', 'session.idleExpiresIn']

describe('docs/troubleshooting.md', () => {
  test('has a row for every code, and no other', () => {
    const codes = tableRows(text('docs/troubleshooting.md'), 'code').map(([code]) => code)
    expect(codes.toSorted()).toEqual(Object.keys(ERRORS).toSorted())
  })

  test('names reasons and notices that somebody writes', () => {
    const rows = tableRows(text('docs/troubleshooting.md'), 'symptom')
    const notices = rows.flatMap(([, , look = '']) =>
      [...look.matchAll(/notice `(\w+)`/g)].map(([, notice = '']) => notice),
    )
    const source = readdirSync(join(repository, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => text(`src/${name}`))
      .join('\n')
    expect(notices.length).toBeGreaterThan(4)
    expect(notices.filter((notice) => !source.includes(`'${notice}'`))).toEqual([])
  })
})

test('the file in docs/deploy-several-services.md loads, and routes as its comments say', () => {
  const [, yaml = ''] =
    /```yaml coatcheck\.yaml\n(.*?)```/s.exec(text('docs/deploy-several-services.md')) ?? []
  const { routes } = loadYaml(yaml.replace('/srv/app', '.'), {
    COATCHECK_PUBLIC_URL: undefined,
    COATCHECK_ISSUER: undefined,
    COATCHECK_CLIENT_ID: undefined,
    COATCHECK_UPSTREAM: undefined,
  })
  const table = compileRoutes(routes)
  /** Where a call goes, and with what. */
  const destination = (method: string, path: string) => {
    const target = parseTarget(path, { encodedSlash: false })
    if (target.kind === 'invalid') return target.reason
    const match = matchRoute(table, target.path, method)
    if (match.kind !== 'route') return match.kind
    const { upstreamOrigin, accept, credential } = match.route
    return `${upstreamOrigin}${upstreamPath(match.route, target)} ${accept} ${credential}`
  }
  expect(destination('POST', '/api/orders/7')).toBe('http://orders:8080/orders/7 session user')
  expect(destination('GET', '/api/catalogue/hats')).toBe(
    'http://catalogue:8080/api/catalogue/hats session,anonymous user',
  )
  expect(destination('PUT', '/api/catalogue/hats')).toBe(
    'http://catalogue:8080/api/catalogue/hats session user',
  )
  expect(destination('GET', '/api/weather/today')).toBe(
    'https://weather.example.net/v1/today session none',
  )
  expect(destination('GET', '/shop')).toBe('none')
})
