/** The lines of this app that make what stands beside them: cut from the very files when the app is built. */

import api from './api.ts?raw'
import actions from './api-actions.ts?raw'
import devices from './devices.ts?raw'
import { el } from './dom.ts'
import echo from './echo.ts?raw'
import experiments from './experiments.ts?raw'
import main from './main.ts?raw'
import session from './session.ts?raw'

const FILES = {
  'api.ts': api,
  'api-actions.ts': actions,
  'devices.ts': devices,
  'echo.ts': echo,
  'experiments.ts': experiments,
  'main.ts': main,
  'session.ts': session,
} as const

/** What stands between `// #region NAME` and `// #endregion`. */
export const sourceOf = (
  file: keyof typeof FILES,
  region: string,
  shown: 'open' | 'folded' = 'folded',
): HTMLElement => {
  const lines = linesOf(FILES[file], region)
  return el(
    'details',
    { class: 'source', open: shown === 'open' },
    el('summary', {}, 'The code · ', el('span', { class: 'file' }, file)),
    el('pre', { tabindex: 0, 'aria-label': `From ${file}` }, lines.join('\n')),
  )
}

const linesOf = (text: string, region: string): string[] => {
  const lines = text.split('\n')
  const start = lines.findIndex((line) => line.trim() === `// #region ${region}`)
  const end = lines.findIndex((line, index) => index > start && line.trim() === '// #endregion')
  if (start < 0 || end < 0) throw new Error(`no region ${region}`)
  const taken = lines.slice(start + 1, end)
  const indents = taken.filter((line) => line.trim() !== '').map((line) => line.search(/\S/))
  return taken.map((line) => line.slice(Math.min(...indents)))
}
