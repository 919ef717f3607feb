/** The users file of `coatcheck dev`: what it may say, and every problem at once without any value in it. */

import { expect, test } from 'vitest'
import { readUsersFile } from '../../../src/config/users-file.ts'
import { emptyDirectory, problemsOf } from './minimal.ts'

const read = (yaml: string) =>
  readUsersFile(undefined, emptyDirectory({ 'coatcheck.users.yaml': yaml }))

test('a login is enough: it is the password and the subject too', () => {
  expect(read('users: [{ login: carol }]')).toEqual([
    { login: 'carol', password: 'carol', claims: { sub: 'carol', preferred_username: 'carol' } },
  ])
})

test('claims are whatever the provider should say, in any shape', () => {
  const yaml = `
users:
  - login: dave
    password: "1234"
    claims: { sub: 7f3a, roles: [admin], realm_access: { roles: [staff] }, level: 3, beta: true }
`
  expect(read(yaml)?.[0]).toEqual({
    login: 'dave',
    password: '1234',
    claims: {
      sub: '7f3a',
      preferred_username: 'dave',
      roles: ['admin'],
      realm_access: { roles: ['staff'] },
      level: 3,
      beta: true,
    },
  })
})

test('there need be no file, unless one is named', () => {
  expect(readUsersFile(undefined, emptyDirectory())).toBeUndefined()
  const cwd = emptyDirectory()
  expect(problemsOf(() => readUsersFile('people.yaml', cwd))).toEqual([
    { setting: '', rule: 'must be a file that can be read (ENOENT)', source: 'file people.yaml' },
  ])
})

test.each([
  ['', '', 'must have users'],
  ['users: []', 'users', 'must have a user'],
  ['users: alice', 'users', 'must be a list of users'],
  ['users: [alice]', 'users[0]', 'must be a user'],
  ['users: [{ password: x }]', 'users[0].login', 'must be text'],
  ['users: [{ login: "" }]', 'users[0].login', 'must be text of 1 to 64 characters'],
  ['users: [{ login: a, password: 1234 }]', 'users[0].password', 'put quotes around a number'],
  ['users: [{ login: a, roles: [admin] }]', 'users[0].roles', 'belongs under claims'],
  ['users: [{ login: a, pasword: b }]', 'users[0].pasword', 'the nearest is password'],
  ['people: []\nusers: [{ login: a }]', 'people', 'the file has users alone'],
  ['users: [{ login: a, claims: [admin] }]', 'users[0].claims', 'must be a map of claims'],
  ['users: [{ login: a, claims: { aud: x } }]', 'users[0].claims.aud', 'set by the provider'],
  ['users: [{ login: a, claims: { name: } }]', 'users[0].claims.name', 'must have a value'],
  ['users: [{ login: a, claims: { sub: "a b" } }]', 'users[0].claims.sub', 'OIDC Core §2'],
  ['users: [{ login: a }, { login: a, claims: { sub: b } }]', 'users[1].login', 'earlier user'],
  ['users: [{ login: a }, { login: b, claims: { sub: a } }]', 'users[1].claims.sub', 'earlier'],
  ['users: [{ login: a ]', '', 'must be valid YAML in line 1'],
])('%s is refused', (yaml, setting, rule) => {
  expect(problemsOf(() => read(yaml))[0]).toEqual({
    setting,
    rule: expect.stringContaining(rule),
    source: 'file coatcheck.users.yaml',
  })
})

test('every problem is told at once', () => {
  expect(
    problemsOf(() => read('users: [{ login: 1, claims: { iss: x } }, { logn: b }]')).map(
      ({ setting }) => setting,
    ),
  ).toEqual(['users[0].login', 'users[0].claims.iss', 'users[1].login', 'users[1].logn'])
})
