/** Problems of a configuration: all of them at once, each with its setting, rule and source, never with a value. */

export interface Problem {
  /** Path in YAML, such as `session.idle` or `routes[0].path`; empty for a file as a whole. */
  readonly setting: string
  /** The variable that was read, or could have been. */
  readonly variable?: string
  /** What must be true. Continues a sentence that begins with the setting. */
  readonly rule: string
  /** `environment`, `file <name>`, `file that <variable> names`, `default` or `not set`. */
  readonly source: string
}

export const NOT_SET = 'not set'

export class ConfigError extends Error {
  readonly code = 'config_invalid'
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[]) {
    super(
      [
        `The configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:`,
        ...problems.map((problem) => `  - ${problemLine(problem)}`),
      ].join('\n'),
    )
    this.name = 'ConfigError'
    this.problems = problems
  }
}

const problemLine = ({ setting, variable, rule, source }: Problem): string => {
  const names = [setting, variable].filter((name) => name !== undefined && name !== '')
  const [name = '', also] = names.map((each) => printable(each as string))
  const named = also === undefined ? name : `${name} (${also})`
  return `${named}${named === '' ? '' : ' '}${rule} [${printable(source)}]`
}

/** Names come from files and the environment: control characters must not reach a terminal. */
const printable = (name: string): string => {
  const shown = name.replace(/[\p{Cc}\p{Cf}]/gu, '?')
  return shown.length > 120 ? `${shown.slice(0, 120)}…` : shown
}
