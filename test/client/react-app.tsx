/** A small React application for e2e/react.spec.ts: every view that it has ever shown is kept in `shown`. */

import { StrictMode, useLayoutEffect } from 'react'
import { createRoot } from 'react-dom/client'
import { SessionProvider, SignedIn, SignedOut, useSession } from '../../src/client/react.ts'

const shown: string[] = []

const View = ({ text }: { readonly text: string }) => {
  useLayoutEffect(() => {
    if (shown.at(-1) !== text) shown.push(text)
  }, [text])
  return <p>{text}</p>
}

const Actions = () => {
  const session = useSession()
  return (
    <>
      <output>{session.status}</output>
      <button type="button" onClick={() => session.login()}>
        Sign in
      </button>
      <button type="button" onClick={() => session.logout()}>
        Sign out
      </button>
    </>
  )
}

const root = document.querySelector('#app')
if (root === null) throw new Error('the page has no #app')
Object.assign(window, { shown })
createRoot(root).render(
  <StrictMode>
    <SessionProvider>
      <SignedIn>{(user) => <View text={`Hello ${user.name}`} />}</SignedIn>
      <SignedOut>
        <View text="Nobody is here" />
      </SignedOut>
      <Actions />
    </SessionProvider>
  </StrictMode>,
)
