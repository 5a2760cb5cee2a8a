// Fastify, as an ES module.   npm ci && PORT=3000 pmr start fastify.mjs -i 4
import fastify from 'fastify'
import { setTimeout as pause } from 'node:timers/promises'

const app = fastify()
app.get('/', async () => `${process.pid}\n`)
app.get('/work', async () => {
  await pause(30)
  return `${process.pid}\n`
})

if (process.env.GRACEFUL !== 'no') process.on('SIGINT', () => app.close().then(() => process.exit(0)))
await app.listen({ port: process.env.PORT })
