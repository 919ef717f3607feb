/** A few lines to build elements with: text stays text, whatever the API sends. */

type Child = Node | string
type Properties = Readonly<Record<string, string | number | boolean | (() => void)>>

/** Functions become listeners (`onclick`), everything else attributes; `true` is an attribute without value. */
export const el = <Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] => {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') element.addEventListener(name.replace(/^on/, ''), value)
    else if (value === true) element.setAttribute(name, '')
    else if (value !== false) element.setAttribute(name, String(value))
  }
  element.append(...children)
  return element
}

export const byId = (id: string): HTMLElement => {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`index.html has no #${id}`)
  return element
}

/** Says it to a screen reader without moving anybody's focus. */
export const announce = (message: string): void => {
  byId('announcer').textContent = message
}
