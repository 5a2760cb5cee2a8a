// Hono, as an ES module.   npm ci && PORT=3000 pmr start hono.mjs -i 4
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { setTimeout as pause } from 'node:timers/promises'

const app = new Hono()
app.get('/', (context) => context.text(`${process.pid}\n`))
app.get('/work', async (context) => {
  await pause(30)
  return context.text(`${process.pid}\n`)
})
const server = serve({ fetch: app.fetch, port: Number(process.env.PORT) })

if (process.env.GRACEFUL !== 'no') process.on('SIGINT', () => server.close(() => process.exit(0)))
