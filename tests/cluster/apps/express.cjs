// Express.
const work = require('./work.cjs')
const express = work.require('express')

const app = express()
app.use((request, response, next) => (work.sick ? response.status(503).send('sick\n') : next()))
app.get('/', (request, response) => response.send(work.quick()))
app.get('/work', async (request, response) => response.send(await work.work()))
app.get('/large', (request, response) => response.type('bin').send(work.large()))
app.get('/long', (request, response) => work.long().pipe(response))
app.post('/upload', async (request, response) => response.send(await work.upload(request)))
app.get('/grow', (request, response) => response.send(work.grow()))
app.use((error, request, response, next) => response.destroy()) // the client has gone

let server
work.run(
  () => (server = app.listen(work.port)),
  () => server.close(() => process.exit(0)),
)
