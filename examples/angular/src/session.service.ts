import { Injectable, signal } from '@angular/core'
import { createClient, type Loading, type SessionState } from 'coatcheck/client'

@Injectable({ providedIn: 'root' })
export class SessionService {
  readonly #client = createClient()
  readonly #state = signal<SessionState | Loading>(this.#client.state)

  readonly state = this.#state.asReadonly()

  constructor() {
    this.#client.subscribe((state) => this.#state.set(state))
  }

  login(): void {
    this.#client.login()
  }

  logout(): Promise<void> {
    return this.#client.logout()
  }

  async get<T>(path: string): Promise<T> {
    const answer = await this.#client.fetch(path)
    return answer.json()
  }
}
