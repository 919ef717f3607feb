import { SignedIn, SignedOut, useSession } from 'coatcheck/react'
import { useState } from 'react'

export const App = () => {
  const { login } = useSession()
  return (
    <>
      <SignedOut>
        <button type="button" onClick={() => login()}>
          Sign in
        </button>
      </SignedOut>
      <SignedIn>{({ name, sub }) => <Items of={name ?? sub} />}</SignedIn>
    </>
  )
}

const Items = ({ of }: { readonly of: string }) => {
  const { fetch, logout } = useSession()
  const [items, setItems] = useState<readonly string[]>([])
  const load = async () => {
    const answer = await fetch('/api/items')
    setItems(await answer.json())
  }
  return (
    <main>
      <h1>Hello {of}</h1>
      <button type="button" onClick={load}>
        Load items
      </button>
      <button type="button" onClick={() => logout()}>
        Sign out
      </button>
      <ul>
        {items.map((item) => (
          <li key={item}>{item}</li>
        ))}
      </ul>
    </main>
  )
}
