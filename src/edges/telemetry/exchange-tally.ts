/** Exchanges counted as each one ends, and made into metrics only when somebody asks for them. */

import type { ObserveExchange } from '../../events.ts'

/** Upper bounds in seconds. */
const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const

interface RouteTally {
  readonly byStatus: Map<number, number>
  /** How many fell below each bound and above the one before; the last place is for those above all. */
  readonly durations: number[]
  sumSeconds: number
}

/** A sample of a histogram, as prom-client renders it. */
export interface HistogramSample {
  readonly metricName: string
  readonly labels: Readonly<Record<string, string | number>>
  readonly value: number
}

export interface ExchangeTally {
  readonly observe: ObserveExchange
  /** Calls back for every route and status that there was. */
  responses(each: (route: string, status: number, count: number) => void): void
  /** Cumulative, as Prometheus wants them. */
  durations(name: string): HistogramSample[]
}

export const createExchangeTally = (): ExchangeTally => {
  const tallies = new Map<string, RouteTally>()

  const tallyOf = (route: string): RouteTally => {
    let tally = tallies.get(route)
    if (tally === undefined) {
      const durations = new Array<number>(BOUNDS.length + 1).fill(0)
      tally = { byStatus: new Map(), durations, sumSeconds: 0 }
      tallies.set(route, tally)
    }
    return tally
  }

  return {
    observe: ({ route, status, durationSeconds }) => {
      const tally = tallyOf(route)
      const { byStatus, durations } = tally
      byStatus.set(status, (byStatus.get(status) ?? 0) + 1)
      const place = placeOf(durationSeconds)
      durations[place] = (durations[place] ?? 0) + 1
      tally.sumSeconds += durationSeconds
    },

    responses: (each) => {
      for (const [route, { byStatus }] of tallies)
        for (const [status, count] of byStatus) each(route, status, count)
    },

    durations: (name) => [...tallies].flatMap(([route, tally]) => samplesOf(name, route, tally)),
  }
}

const placeOf = (durationSeconds: number): number => {
  let place = 0
  while (durationSeconds > (BOUNDS[place] ?? Number.POSITIVE_INFINITY)) place += 1
  return place
}

const samplesOf = (
  name: string,
  route: string,
  { durations, sumSeconds }: RouteTally,
): HistogramSample[] => {
  let count = 0
  const buckets = durations.map((inPlace, place) => {
    count += inPlace
    return {
      metricName: `${name}_bucket`,
      labels: { le: BOUNDS[place] ?? '+Inf', route },
      value: count,
    }
  })
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels: { route }, value: sumSeconds },
    { metricName: `${name}_count`, labels: { route }, value: count },
  ]
}
