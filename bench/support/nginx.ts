/** nginx as the upstream that answers only whoever brings a token, and as a proxy without sessions. */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { startChild } from '../../test/support/child.ts'
import { findExecutable } from '../../test/support/executable.ts'
import { freePort } from '../../test/support/free-port.ts'
import { waitFor } from '../../test/support/wait.ts'

export const NGINX_MISSING = 'apt-get update && apt-get install -y nginx'

const SMALL_BYTES = 1_024
const LARGE_BYTES = 100 * 1_024

export interface Nginx {
  readonly url: string
  readonly pid: number
  close(): Promise<void>
}

export interface BenchUpstream extends Nginx {
  /** Requests under /api so far, the refused ones included. */
  requests(): Promise<number>
}

/** JSON of exactly so many bytes. */
const json = (bytes: number): string => {
  const frame = JSON.stringify({ items: '' })
  return frame.replace('""', `"${'x'.repeat(bytes - frame.length)}"`)
}

const startNginx = async (serverOf: (directory: string) => string): Promise<Nginx> => {
  const nginx = findExecutable('nginx') ?? findExecutable('/usr/sbin/nginx')
  if (nginx === undefined) throw new Error(`nginx is not installed. Run: ${NGINX_MISSING}`)
  const directory = await mkdtemp(join(tmpdir(), 'coatcheck-bench-nginx-'))
  const port = await freePort()
  const { uid, username } = userInfo()
  await writeFile(join(directory, 'large.json'), json(LARGE_BYTES))
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path ${directory}/${kind};`)
    .join(' ')
  // A worker of another user could not read the directory.
  await writeFile(
    join(directory, 'nginx.conf'),
    `${uid === 0 ? `user ${username};` : ''}
daemon off; worker_processes 1; pid ${directory}/pid; error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off; ${temporary}
  client_body_buffer_size 64k; keepalive_requests 1000000000; sendfile on; tcp_nopush on;
  default_type application/json;
  ${serverOf(directory).replaceAll('PORT', String(port))}
}
`,
  )
  const child = await startChild(nginx, ['-p', directory, '-c', join(directory, 'nginx.conf')])
  const url = `http://127.0.0.1:${port}`
  await waitFor('nginx answers', async () => {
    if (child.hasExited()) throw new Error(`nginx ended:\n${child.stderr.join('\n')}`)
    return (await fetch(`${url}/`).catch(() => undefined)) !== undefined
  })
  return {
    url,
    pid: child.pid,
    close: async () => {
      // Its master ends the workers only when it is asked to.
      child.signal('SIGTERM')
      await child.exited
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/**
 * `/api/small`, `/api/large`, and `/api/post`, which takes a body and answers when it has all of it. Without a JWT as
 * Bearer token they are 403; the same under `/open/` for whoever has no token to send.
 */
export const startUpstream = async (): Promise<BenchUpstream> => {
  const small = json(SMALL_BYTES)
  const resources = (prefix: string, condition: string, directory: string) => `
    location = ${prefix}/small { ${condition} return 200 '${small}'; }
    location = ${prefix}/large { ${condition} alias ${directory}/large.json; }
    location = ${prefix}/post  { ${condition} proxy_pass http://127.0.0.1:PORT/taken; }`
  const nginx = await startNginx(
    (directory) => `
  map $http_authorization $without_token { "~^Bearer [\\w-]+\\.[\\w-]+\\.[\\w-]+$" 0; default 1; }
  server {
    listen 127.0.0.1:PORT backlog=4096 reuseport;
    ${resources('/api', 'if ($without_token) { return 403; }', directory)}
    ${resources('/open', '', directory)}
    location = /taken { return 200 '${small}'; }
    location = /status { stub_status; }
  }`,
  )
  return {
    ...nginx,
    requests: async () => {
      const text = await (await fetch(`${nginx.url}/status`)).text()
      return Number(/^\s*\d+ \d+ (\d+)/m.exec(text)?.[1])
    },
  }
}

/** Keep-alive towards the upstream, no sessions: what a proxy costs at least. */
export const startNginxProxy = (upstream: string): Promise<Nginx> =>
  startNginx(
    () => `
  upstream api { server ${new URL(upstream).host}; keepalive 128; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:PORT backlog=4096;
    location / { proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ''; }
  }`,
  )
