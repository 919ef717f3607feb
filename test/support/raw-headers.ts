/** Raw header lists as node:http gives them: name, value, name, value, in the order of the wire. */

/** Values of all lines of that name. */
export const linesOf = (rawHeaders: readonly string[], name: string): string[] =>
  rawHeaders.filter(
    (_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === name.toLowerCase(),
  )

/** Value of the only line of that name, undefined without one; several are an error. */
export const onlyLineOf = (rawHeaders: readonly string[], name: string): string | undefined => {
  const lines = linesOf(rawHeaders, name)
  if (lines.length > 1) throw new Error(`${lines.length} lines of ${name}: ${lines.join(' | ')}`)
  return lines[0]
}
