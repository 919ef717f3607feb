// Plain JavaScript on purpose: it must run, and explain itself, on any Node that npm happens to find.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 19)) {
  console.error(
    `coatcheck needs Node 22.19 or newer, and this is ${process.versions.node}.\n` +
      'npm installs a fitting one into node_modules/.bin when its install scripts may run: run "npm ci"\n' +
      '(without --ignore-scripts) and start commands through "npm run".',
  )
  process.exit(78)
}
