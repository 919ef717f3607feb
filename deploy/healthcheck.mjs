// Container health without curl: `healthcheck.mjs [url] [status]` exits 0 when the URL answers with that status.

/** The image sets COATCHECK_OPERATIONS_LISTEN, and a variable wins over the configuration file. */
const livez = () => {
  const listen = process.env.COATCHECK_OPERATIONS_LISTEN ?? '127.0.0.1:9090'
  if (listen === 'off') return undefined
  return `http://${listen.replace(/^0\.0\.0\.0:/, '127.0.0.1:').replace(/^\[::\]:/, '[::1]:')}/livez`
}

const [url = livez(), status = '200'] = process.argv.slice(2)
if (url !== undefined) {
  try {
    const response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(2_000) })
    await response.body?.cancel()
    if (String(response.status) !== status) {
      console.error(`${url} answered ${response.status} instead of ${status}`)
      process.exitCode = 1
    }
  } catch (error) {
    console.error(`${url} does not answer: ${error.cause?.code ?? error.name}`)
    process.exitCode = 1
  }
}
