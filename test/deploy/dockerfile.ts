/** deploy/Dockerfile as stages and instructions: enough of its grammar to check what the file says. */

import { readFileSync } from 'node:fs'
import { repositoryUrl } from './compose-file.ts'

export interface Instruction {
  readonly name: string
  readonly argument: string
}

export interface Stage {
  readonly name: string
  /** An image, with variables replaced, or the name of an earlier stage. */
  readonly base: string
  readonly instructions: readonly Instruction[]
}

const INSTRUCTIONS = [
  ...['ARG', 'FROM', 'WORKDIR', 'COPY', 'RUN', 'USER'],
  ...['EXPOSE', 'HEALTHCHECK', 'ENTRYPOINT', 'CMD', 'ENV'],
]

export const readDockerfile = (): readonly Stage[] =>
  stagesOf(readFileSync(new URL('deploy/Dockerfile', repositoryUrl), 'utf8'))

const stagesOf = (text: string): readonly Stage[] => {
  const variables = new Map<string, string>()
  const stages: { name: string; base: string; instructions: Instruction[] }[] = []
  for (const { name, argument } of instructionsOf(text)) {
    const stage = stages.at(-1)
    if (name === 'FROM') {
      const [, image, alias] = /^(\S+) AS ([a-z-]+)$/.exec(argument) ?? []
      if (image === undefined || alias === undefined) throw new Error(`unnamed stage: ${argument}`)
      const base = image.replaceAll(/\$\{(\w+)\}/g, (_, variable) => {
        const value = variables.get(variable)
        if (value === undefined) throw new Error(`${variable} has no default before ${argument}`)
        return value
      })
      stages.push({ name: alias, base, instructions: [] })
    } else if (stage !== undefined) {
      stage.instructions.push({ name, argument })
    } else if (name === 'ARG') {
      const [variable = '', value = ''] = argument.split('=')
      variables.set(variable, value)
    } else {
      throw new Error(`${name} stands before the first FROM`)
    }
  }
  return stages
}

const instructionsOf = (text: string): readonly Instruction[] =>
  text
    .replaceAll(/^\s*#.*\n/gm, '')
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [, name = '', argument = ''] = /^([A-Z]+) (.+)$/.exec(line) ?? []
      if (!INSTRUCTIONS.includes(name)) throw new Error(`not an instruction: ${line}`)
      return { name, argument }
    })

/** The stage's own instructions after those of the stages it is based on. */
export const effectiveInstructions = (
  stages: readonly Stage[],
  target: string,
): readonly Instruction[] => {
  const stage = stages.find(({ name }) => name === target)
  if (stage === undefined) return []
  return [...effectiveInstructions(stages, stage.base), ...stage.instructions]
}

/** The last instruction of that name wins, as in a build. */
export const lastArgument = (
  instructions: readonly Instruction[],
  name: string,
): string | undefined => instructions.findLast((instruction) => instruction.name === name)?.argument

/** The words of an instruction in exec form, e.g. `CMD ["serve"]`. */
export const execForm = (argument: string | undefined): readonly string[] => {
  const words: unknown = JSON.parse(argument ?? '[]')
  if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) {
    throw new Error(`not in exec form: ${argument}`)
  }
  return words
}
