/** The rights of Redis users as docs/session-data.md gives them, ready for the server. */

import { readFile } from 'node:fs/promises'

type Rights = readonly [name: string, ...rules: string[]]

export interface DocumentedRights {
  /** Of a server or of master and replicas. */
  readonly single: Rights
  readonly cluster: Rights
  /** One more, for `redis.confirm`. */
  readonly confirm: string
  /** Of the Sentinels themselves. */
  readonly sentinel: Rights
}

/** Words after `ACL SETUSER`, with that password in the place of `<password>`. */
export const documentedRights = async (password: string): Promise<DocumentedRights> => {
  const page = await readFile(new URL('../../../docs/session-data.md', import.meta.url), 'utf8')
  const [single, sentinel] = [...page.matchAll(/^ACL SETUSER (\S+) (.+)$/gm)].map(
    ([, name = '', rules = '']): Rights => [
      name,
      ...rules.replace('<password>', password).split(' '),
    ],
  )
  const forCluster = /In a Cluster also `(\+[^`]+)`/.exec(page)?.[1]
  const confirm = /With `redis\.confirm` also `(\+[^`]+)`/.exec(page)?.[1]
  if (
    single === undefined ||
    sentinel === undefined ||
    forCluster === undefined ||
    confirm === undefined
  )
    throw new Error('docs/session-data.md names no rights')
  return { single, cluster: [...single, forCluster], confirm, sentinel }
}
