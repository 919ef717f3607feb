/** The parts of a Markdown page that tests compare with the code: fenced blocks and tables. */

/** Text of the one block fenced as "```<name>"; throws when there is none, or more than one. */
export const fencedBlock = (markdown: string, name: string): string => {
  const blocks = [...markdown.matchAll(new RegExp(`^\`\`\`${name}\\n(.*?)^\`\`\`$`, 'gms'))]
  const [block] = blocks
  if (block === undefined || blocks.length > 1) {
    throw new Error(`expected one block fenced as \`\`\`${name}, found ${blocks.length}`)
  }
  return block[1] ?? ''
}

/** Rows of every table whose first column has this heading, cell by cell, without backticks. */
export const tableRows = (markdown: string, firstHeading: string): string[][] => {
  const rows: string[][] = []
  let inside = false
  for (const line of markdown.split('\n')) {
    if (!line.startsWith('|')) {
      inside = false
      continue
    }
    const cells = line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim().replace(/^`(.*)`$/, '$1'))
    if (cells[0]?.toLowerCase() === firstHeading) inside = true
    else if (inside && !cells.every((cell) => /^:?-+:?$/.test(cell))) rows.push(cells)
  }
  return rows
}
