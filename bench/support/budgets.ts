/** What the gateway may cost: each budget with what was measured, and whether it holds. */

import { printTable, rounded } from './measure.ts'
import { type Budget, keepBudgets, verdictOn } from './results.ts'

const WORDS = { aim: 'within the aim', must: 'within the budget', missed: 'MISSED' } as const

export const printBudgets = (budgets: readonly Budget[]): void => {
  keepBudgets(budgets)
  printTable(
    'Budgets',
    ['what', 'measured', 'must', 'aim', 'verdict'],
    budgets.map((budget) => {
      const { what, measured, must, aim, unit, atLeast = false } = budget
      const sign = atLeast ? '≥' : '≤'
      return [
        what,
        `${rounded(measured, 2)} ${unit}`,
        `${sign} ${must}`,
        aim === undefined ? '' : `${sign} ${aim}`,
        WORDS[verdictOn(budget)],
      ]
    }),
  )
}
