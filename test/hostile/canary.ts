/**
 * A well-behaved client on one connection that it keeps: between attacks it asks something new each time and must get
 * just that. An answer of somebody else's, none, or a connection that ends shows that an attack reached beyond its own.
 */

import { rawClient } from '../edges/upstream/raw-sockets.ts'
import { waitFor } from '../support/wait.ts'

export interface Canary {
  /** Throws unless the answer is the one to this very question. */
  sings(): Promise<void>
  close(): void
}

/** `head` gives the whole head of a request for a target that an upstream of strict-upstream.ts echoes. */
export const startCanary = async (
  port: number,
  head: (target: string) => string,
): Promise<Canary> => {
  const client = await rawClient(port, '')
  let songs = 0
  let heard = 0
  return {
    sings: async () => {
      songs += 1
      const target = `/api/canary-${songs}`
      client.socket.write(head(target), 'latin1')
      const answer = await waitFor(
        `the canary's answer to ${target}`,
        () => {
          if (client.socket.destroyed) throw new Error('the connection of the canary ended')
          return wholeAnswer(client.received().slice(heard))
        },
        { intervalMs: 1 },
      )
      heard += answer.length
      if (!answer.startsWith('HTTP/1.1 200 ') || !answer.endsWith(`\r\n\r\n${target}`))
        throw new Error(`not what the canary asked for (${target}): ${JSON.stringify(answer)}`)
    },
    close: () => client.socket.destroy(),
  }
}

/** The first sized answer of the text, undefined while it is not whole. */
const wholeAnswer = (text: string): string | undefined => {
  const headEnd = text.indexOf('\r\n\r\n')
  if (headEnd === -1) return undefined
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(text.slice(0, headEnd))?.[1] ?? 0)
  const end = headEnd + 4 + length
  return text.length < end ? undefined : text.slice(0, end)
}
