import { useEffect, useState } from 'react'

export function App() {
  const [session, setSession] = useState()
  const [items, setItems] = useState()
  const [clicks, setClicks] = useState(0)
  useEffect(() => {
    fetch('/bff/session')
      .then((answer) => answer.json())
      .then(setSession)
  }, [])
  if (session === undefined) return <p>One moment …</p>
  if (!session.authenticated) return <a href={session.links.login}>Sign in</a>
  const load = async () => setItems(await (await fetch('/api/items')).json())
  return (
    <>
      <h1>Hello {session.user.name}</h1>
      <button type="button" onClick={load}>
        Load
      </button>
      <ul>
        {items?.map((item) => (
          <li key={item}>{item}</li>
        ))}
      </ul>
      <button type="button" onClick={() => setClicks(clicks + 1)}>
        {clicks} clicks
      </button>
    </>
  )
}
