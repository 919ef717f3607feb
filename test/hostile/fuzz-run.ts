/** What the fuzz runs share: their seed and length from the environment, markers, and the watch for crashes. */

import { pick, type Random } from './mutations.ts'

const numberFrom = (name: string): number | undefined => {
  const text = process.env[name]
  if (text === undefined || text === '') return undefined
  if (!/^[0-9]{1,9}$/.test(text)) throw new Error(`${name} is no number: ${text}`)
  return Number(text)
}

/** Without the variables the same run every time; another seed or more rounds find more. */
export const FUZZ = {
  seed: process.env.FUZZ_SEED || '1',
  from: numberFrom('FUZZ_FROM') ?? 1,
  rounds: numberFrom('FUZZ_ROUNDS'),
}

/** Long enough that no damage turns one into another. */
export const marker = (random: Random): string =>
  Array.from({ length: 16 }, () => pick(random, [...'0123456789abcdef'])).join('')

export interface CrashWatch {
  readonly seen: readonly string[]
  stop(): void
}

/** In a process of its own each of these would have ended the gateway. */
export const watchCrashes = (): CrashWatch => {
  const seen: string[] = []
  const note = (thrown: unknown) =>
    seen.push(thrown instanceof Error ? `${thrown.stack}` : `${thrown}`)
  process.on('uncaughtException', note).on('unhandledRejection', note)
  return {
    seen,
    stop: () => {
      process.off('uncaughtException', note).off('unhandledRejection', note)
    },
  }
}

export interface Played<Round> {
  /** What went wrong when these were played together, if anything did. */
  readonly play: (batch: readonly Round[]) => Promise<string | undefined>
  /** One round with its bytes. */
  readonly shown: (round: Round) => string
}

/** A fault of a batch, made to be repeated: its rounds are played one by one, so that the guilty one is named. */
export const faultReport = async <Round extends { readonly round: number }>(
  fault: string,
  batch: readonly Round[],
  { play, shown }: Played<Round>,
): Promise<string> => {
  for (const round of batch) {
    const alone = await play([round]).catch(String)
    if (alone === undefined) continue
    return `${alone}\nrepeat with FUZZ_SEED=${FUZZ.seed} FUZZ_FROM=${round.round} FUZZ_ROUNDS=1\n${shown(round)}`
  }
  return `${fault}\nonly together: FUZZ_SEED=${FUZZ.seed} FUZZ_FROM=${batch[0]?.round} FUZZ_ROUNDS=${batch.length}\n${batch.map(shown).join('\n')}`
}
