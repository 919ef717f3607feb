/** What the tests stand on keeps its own promises. (The browser is held against Chromium in e2e.) */

import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { milliseconds } from '../../src/time.ts'
import { createBrowser } from './browser.ts'
import { startChild } from './child.ts'
import { createCookieJar } from './cookie-jar.ts'
import { createFakeClock } from './fake-clock.ts'
import { formsOf, metaRefreshOf } from './html.ts'
import { startRedis } from './redis.ts'
import { startUpstreamApi } from './upstream-api.ts'
import { waitFor } from './wait.ts'

describe('the fake clock', () => {
  it('wakes sleeps in the order of their ends, those begun on the way included', async () => {
    const clock = createFakeClock()
    const woken: string[] = []
    const sleeper = async (name: string, ...durations: number[]) => {
      for (const duration of durations) {
        await clock.sleep(milliseconds(duration))
        woken.push(`${name} at ${clock.monotonicMs()}`)
      }
    }
    void sleeper('late', 90)
    void sleeper('early', 20, 30, 60)
    await clock.advance(100)
    expect(woken).toEqual(['early at 20', 'early at 50', 'late at 90'])
    expect(clock.sleeping).toBe(1)
    await clock.advance(10)
    expect(woken.at(-1)).toBe('early at 110')
  })

  it('ends a sleep early when its signal aborts, and steps the wall clock alone', async () => {
    const clock = createFakeClock()
    const abort = new AbortController()
    const sleeping = clock.sleep(milliseconds(50), abort.signal)
    abort.abort()
    await sleeping
    const before = clock.now()
    clock.stepWallClock(-1_000)
    expect([clock.now() - before, clock.monotonicMs(), clock.sleeping]).toEqual([-1_000, 0, 0])
  })
})

describe('waiting', () => {
  it('says what was waited for, with the last error as its cause', async () => {
    const waiting = waitFor('the moon', () => Promise.reject(new Error('cloudy')), {
      timeoutMs: 60,
      intervalMs: 10,
    })
    await expect(waiting).rejects.toThrow('waited 60 ms in vain: the moon')
    await expect(waiting).rejects.toMatchObject({ cause: { message: 'cloudy' } })
  })

  it('is bounded when the condition itself never answers', async () => {
    await expect(
      waitFor('an answer', () => new Promise<boolean>(() => undefined), { timeoutMs: 60 }),
    ).rejects.toThrow('in vain: an answer')
  })
})

it('Redis pauses, resumes, comes back empty on the same port, and ends when paused', async () => {
  const redis = await startRedis()
  const answers = async () => {
    const socket = connect(redis.port, '127.0.0.1')
    socket.write('PING\r\n')
    const answer = new Promise<boolean>((resolve) => {
      socket.once('data', () => resolve(true))
      socket.once('error', () => resolve(false))
    })
    return Promise.race([answer, sleep(150, false)]).finally(() => socket.destroy())
  }
  expect(await answers()).toBe(true)
  redis.pause()
  expect(await answers()).toBe(false)
  redis.resume()
  expect(await answers()).toBe(true)
  const { pid } = redis
  redis.pause()
  await redis.restart()
  expect(redis.pid).not.toBe(pid)
  expect(await answers()).toBe(true)
  redis.pause()
  await redis.close()
  expect(await answers()).toBe(false)
})

it('a child ends with the process that started it, even when that is killed', async () => {
  const module = new URL('./child.ts', import.meta.url).href
  const parent = await startChild(process.execPath, [
    '--input-type=module-typescript',
    '--eval',
    `const { startChild } = await import('${module}')
     console.log((await startChild('sleep', ['60'])).pid)
     setInterval(() => undefined, 1000)`,
  ])
  const pid = Number(await waitFor('the child starts', () => parent.stdout[0]))
  expect(isAlive(pid)).toBe(true)
  await parent.kill()
  await waitFor('the child is gone', () => !isAlive(pid))
})

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe('the browser', () => {
  it('gives up on endless redirects and on endlessly refreshing pages', async () => {
    const api = await startUpstreamApi({
      answer: ({ url }, response) => {
        if (url === '/redirects') response.writeHead(303, { location: url })
        else response.setHeader('content-type', 'text/html')
        response.end('<meta http-equiv=refresh content="0">')
      },
    })
    const browser = createBrowser()
    await expect(browser.navigate(`${api.url}/redirects`)).rejects.toThrow('more than 20 redirects')
    await expect(browser.navigate(`${api.url}/pages`)).rejects.toThrow('more than 20 refreshing')
    expect(api.requests).toHaveLength(42)
    await api.close()
  })

  it('forgets cookies when they expire, and when they are cleared by Max-Age=0', () => {
    let now = 0
    const jar = createCookieJar(() => now)
    const url = new URL('http://localhost:3000/')
    expect(jar.set('a=1; Max-Age=10', url)).toBe(true)
    expect(jar.set('b=1', url)).toBe(true)
    expect(jar.header(new URL('http://localhost:4000/x'), 'strict')).toBe('a=1; b=1')
    now = 10_000
    expect(jar.header(url, 'strict')).toBe('b=1')
    expect(jar.set('b=; Max-Age=0', url)).toBe(true)
    expect(jar.header(url, 'strict')).toBeUndefined()
  })

  it('reads forms and refreshing pages', () => {
    const html = `<!-- <form action="/no"></form> --><form method=post action="/sent?a=1&amp;b=2">
      <input name="login" value='a "quoted" &gt;'><input type="checkbox" name="off" value="1">
      <input type=checkbox name=on checked><textarea name="text">&lt;b&gt;</textarea>
      <button type="button" name="script">no</button><button name="go" value="yes">go</button></form>`
    expect(formsOf(html)).toEqual([
      {
        action: '/sent?a=1&b=2',
        method: 'POST',
        fields: [
          ['login', 'a "quoted" >'],
          ['on', 'on'],
          ['text', '<b>'],
        ],
        buttons: [['go', 'yes']],
      },
    ])
    expect(metaRefreshOf('<META content="0;URL=/a?b=1&amp;c=2" http-equiv=Refresh>')).toBe(
      '/a?b=1&c=2',
    )
    expect(metaRefreshOf('<meta http-equiv="refresh" content="300; url=/later">')).toBeUndefined()
  })
})
