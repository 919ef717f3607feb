/** The rights of a Redis user as docs/session-data.md gives them, ready for the server. */

import { readFile } from 'node:fs/promises'

/** Arguments of the `ACL` command; `<password>` is replaced, and in a Cluster one more right is added. */
export const documentedRights = async (
  password: string,
  kind: 'single' | 'cluster' = 'single',
): Promise<readonly [string, ...string[]]> => {
  const page = await readFile(new URL('../../../docs/session-data.md', import.meta.url), 'utf8')
  const line = /^ACL (SETUSER coatcheck .*)$/m.exec(page)?.[1]
  const forCluster = /In a Cluster also `(\+[^`]+)`/.exec(page)?.[1]
  if (line === undefined || forCluster === undefined)
    throw new Error('docs/session-data.md names no rights')
  const [command = '', ...words] = line.replace('<password>', password).split(' ')
  return [command, ...words, ...(kind === 'cluster' ? [forCluster] : [])]
}
