/** Reads the steps of the proxied request out of the text of src/proxy.ts, and those of a handshake out of src/handshake.ts. */

import { codeOf } from './source-tree.ts'

/** Questions put to plain values; they decide nothing by themselves. */
const PLAIN = ['includes', 'has', 'get', 'header', 'startsWith', 'some', 'every']
const WORDS = ['if', 'for', 'while', 'switch', 'catch', 'return', 'function']

/**
 * Names of the calls in the function that the factory returns, in the order in which they run. A call that is
 * only an argument of another is part of that step, unless it is awaited.
 */
export const stepsOf = (
  text: string,
  factory: 'createProxy' | 'createHandshake' = 'createProxy',
): readonly string[] => {
  const code = codeOf(text)
  const body = new RegExp(
    `^export const ${factory}\\b.*?^ {2}return async \\([^)]*\\) => \\{\\n(.*?)^ {2}\\}$`,
    'ms',
  ).exec(code)?.[1]
  if (body === undefined) throw new Error(`no function that ${factory} returns was found`)

  const calls = [...body.matchAll(/(\bawait\s+)?(?:\b\w+\??\.)*\b(\w+)\(/g)]
    .filter(([, , name = '']) => !WORDS.includes(name))
    .map((match) => ({
      name: match[2] ?? '',
      awaited: match[1] !== undefined,
      start: match.index,
      // A call runs when its arguments are known: at its closing parenthesis.
      end: closingParenthesis(body, match.index + match[0].length),
    }))
  return calls
    .filter((call) => !PLAIN.includes(call.name))
    .filter(
      ({ start, end, awaited }) =>
        awaited || !calls.some((outer) => outer.start < start && end < outer.end),
    )
    .toSorted((left, right) => left.end - right.end)
    .map(({ name }) => name)
}

const closingParenthesis = (text: string, from: number): number => {
  let depth = 1
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === '(') depth += 1
    if (text[at] === ')') depth -= 1
    if (depth === 0) return at
  }
  return text.length
}
