import { createClient, type Loading, type SessionState } from 'coatcheck/client'
import { readonly, shallowRef } from 'vue'

export const client = createClient()

const state = shallowRef<SessionState | Loading>(client.state)
client.subscribe((now) => {
  state.value = now
})

/** The session of the page, the same for all components. */
export const session = readonly(state)
