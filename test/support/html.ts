/** As much HTML as the test browser reads: forms with their fields, and refreshing pages. */

export interface HtmlForm {
  readonly action: string
  readonly method: 'GET' | 'POST'
  /** Names and values a browser would send if nobody typed anything, without the buttons. */
  readonly fields: readonly (readonly [string, string])[]
  /** Buttons that submit; the first one is pressed, and sends its pair if it has a name. */
  readonly buttons: readonly (readonly [string, string])[]
}

export const formsOf = (html: string): readonly HtmlForm[] =>
  elements(html, 'form').map(({ attributes, content }) => {
    const inputs = [...tags(content, 'input'), ...tags(content, 'button')]
    const fields: [string, string][] = []
    const buttons: [string, string][] = []
    for (const { tag, attributes: input } of inputs) {
      const type = (input.get('type') ?? (tag === 'button' ? 'submit' : 'text')).toLowerCase()
      const pair: [string, string] = [input.get('name') ?? '', input.get('value') ?? '']
      if (type === 'submit' || type === 'image') buttons.push(pair)
      else if (type === 'reset' || type === 'button' || pair[0] === '') continue
      else if (type !== 'checkbox' && type !== 'radio') fields.push(pair)
      else if (input.has('checked')) fields.push([pair[0], pair[1] || 'on'])
    }
    for (const { attributes: area, content: text } of elements(content, 'textarea')) {
      const name = area.get('name')
      if (name) fields.push([name, decodeEntities(text)])
    }
    return {
      action: attributes.get('action') ?? '',
      method: attributes.get('method')?.toUpperCase() === 'POST' ? 'POST' : 'GET',
      fields,
      buttons,
    }
  })

/** Target of `<meta http-equiv="refresh">`, empty for the page itself, if it comes within five seconds. */
export const metaRefreshOf = (html: string): string | undefined => {
  for (const { attributes } of tags(html, 'meta')) {
    if (attributes.get('http-equiv')?.toLowerCase() !== 'refresh') continue
    const parts = /^\s*(\d+)[^;,]*(?:[;,]\s*(?:url\s*=\s*)?["']?(.*?)["']?)?\s*$/is.exec(
      attributes.get('content') ?? '',
    )
    if (parts && Number(parts[1]) <= 5) return parts[2] ?? ''
  }
  return undefined
}

interface Tag {
  readonly tag: string
  readonly attributes: ReadonlyMap<string, string>
}

const tags = (html: string, tag: string): Tag[] =>
  [...withoutComments(html).matchAll(new RegExp(`<${tag}(?=[\\s/>])${ATTRIBUTES}>`, 'gi'))].map(
    (match) => ({ tag, attributes: attributesOf(match[1] ?? '') }),
  )

const elements = (html: string, tag: string): (Tag & { readonly content: string })[] =>
  [
    ...withoutComments(html).matchAll(
      new RegExp(`<${tag}(?=[\\s/>])${ATTRIBUTES}>(.*?)</${tag}\\s*>`, 'gis'),
    ),
  ].map((match) => ({ tag, attributes: attributesOf(match[1] ?? ''), content: match[2] ?? '' }))

// Quoted values may contain ">".
const ATTRIBUTES = `((?:[^>"']|"[^"]*"|'[^']*')*)`

const attributesOf = (text: string): Map<string, string> => {
  const attributes = new Map<string, string>()
  for (const match of text.matchAll(
    /([^\s=/>"']+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+)))?/g,
  )) {
    const name = (match[1] ?? '').toLowerCase()
    if (!attributes.has(name)) {
      attributes.set(name, decodeEntities(match[2] ?? match[3] ?? match[4] ?? ''))
    }
  }
  return attributes
}

const withoutComments = (html: string): string => html.replace(/<!--.*?-->/gs, '')

const NAMED: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

const decodeEntities = (text: string): string =>
  text.replace(/&(?:#(\d+)|#x([0-9a-f]+)|([a-z]+));/gi, (whole, decimal, hex, name) => {
    if (name !== undefined) return NAMED[name.toLowerCase()] ?? whole
    return String.fromCodePoint(decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal))
  })
