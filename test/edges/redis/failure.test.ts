/** Errors of client, network and server become one stable reason each, without what they carry along. */

import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import {
  causeWithoutArguments,
  failureReason,
  OtherServer,
  UnknownMaster,
} from '../../../src/edges/redis/failure.ts'

const systemError = (code: string) => Object.assign(new Error(`connect ${code}`), { code })
const reply = (message: string) => Object.assign(new Error(message), { name: 'ReplyError' })

describe('the reason of a failure', () => {
  it.each([
    [systemError('ECONNREFUSED'), 'connection_refused'],
    [systemError('ENOTFOUND'), 'name_not_resolved'],
    [systemError('EAI_AGAIN'), 'name_not_resolved'],
    [systemError('ETIMEDOUT'), 'connect_timeout'],
    [systemError('ECONNRESET'), 'connection_lost'],
    [systemError('DEPTH_ZERO_SELF_SIGNED_CERT'), 'tls_failed'],
    [systemError('ERR_TLS_CERT_ALTNAME_INVALID'), 'tls_failed'],
    [new Error('Command timed out'), 'timeout'],
    [new Error('Connection is closed.'), 'connection_lost'],
    [
      reply('WRONGPASS invalid username-password pair or user is disabled.'),
      'authentication_refused',
    ],
    [reply('NOAUTH Authentication required.'), 'authentication_refused'],
    [reply("NOPERM this user has no permissions to run the 'eval' command"), 'permission_refused'],
    [
      reply("ERR The user executing the script can't run this command or subcommand script: 1"),
      'permission_refused',
    ],
    [reply('LOADING Redis is loading the dataset in memory'), 'loading'],
    [reply("READONLY You can't write against a read only replica."), 'read_only'],
    [reply("OOM command not allowed when used memory > 'maxmemory'."), 'out_of_memory'],
    [
      reply('ERR Error running script (call to f_1): @user_script:3: -OOM command'),
      'out_of_memory',
    ],
    [reply('MISCONF Redis is configured to save RDB snapshots'), 'persistence_failed'],
    [reply('CLUSTERDOWN Hash slot not served'), 'cluster_down'],
    [reply('ERR max number of clients reached'), 'too_many_clients'],
    [reply('ERR syntax error'), 'command_refused'],
    [systemError('ERR_OSSL_X509_KEY_VALUES_MISMATCH'), 'tls_failed'],
    [new UnknownMaster(), 'master_unknown'],
    [new OtherServer(), 'other_server'],
    [new Error('Too many Cluster redirections. Last error: MOVED 1 10.0.0.1:6379'), 'cluster_down'],
    [
      Object.assign(new Error('Failed to refresh slots cache.'), {
        lastNodeError: reply('NOAUTH Authentication required.'),
      }),
      'authentication_refused',
    ],
    ['thrown text', 'connection_lost'],
  ])('%s is %s', (thrown, reason) => {
    expect(failureReason(thrown)).toBe(reason)
  })
})

describe('the cause that goes to the log', () => {
  it('has the first clause, and none of the arguments', () => {
    const thrown = Object.assign(
      reply("ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'secret'"),
      { command: { name: 'hello', args: ['3', 'AUTH', 'secret'] } },
    )
    const cause = causeWithoutArguments(thrown)
    expect(cause.message).toBe("ReplyError: ERR unknown command 'HELLO'")
    expect(inspect(cause, { depth: 5, showHidden: true })).not.toContain('secret')
  })
})
