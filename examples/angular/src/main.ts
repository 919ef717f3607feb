// The compiler in the page keeps this example small. An app of the Angular CLI leaves this line out and keeps the rest.
import '@angular/compiler'
import { bootstrapApplication } from '@angular/platform-browser'
import { AppComponent } from './app.component.ts'

await bootstrapApplication(AppComponent)
