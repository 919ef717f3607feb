import { Component, inject, signal } from '@angular/core'
import { SessionService } from './session.service.ts'

@Component({
  selector: 'app-root',
  template: `
    @if (session.state(); as state) {
      @if (state.user; as user) {
        <main>
          <h1>Hello {{ user.name ?? user.sub }}</h1>
          <button (click)="load()">Load items</button>
          <button (click)="session.logout()">Sign out</button>
          <ul>
            @for (item of items(); track item) {
              <li>{{ item }}</li>
            }
          </ul>
        </main>
      } @else if (state.status !== 'loading') {
        <button (click)="session.login()">Sign in</button>
      }
    }
  `,
})
export class AppComponent {
  readonly session = inject(SessionService)
  readonly items = signal<readonly string[]>([])

  async load(): Promise<void> {
    this.items.set(await this.session.get('/api/items'))
  }
}
