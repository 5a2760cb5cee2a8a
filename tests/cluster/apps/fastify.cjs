// Fastify.
const work = require('./work.cjs')
const fastify = work.require('fastify')

const app = fastify({ bodyLimit: 1 << 24 })
app.addContentTypeParser('application/octet-stream', (request, payload) => work.upload(payload))
if (work.sick) app.addHook('onRequest', (request, reply) => reply.code(503).send('sick\n'))
app.get('/', async () => work.quick())
app.get('/work', () => work.work())
app.get('/large', async () => work.large())
app.get('/long', (request, reply) => reply.send(work.long()))
app.post('/upload', async (request) => request.body)
app.get('/grow', async () => work.grow())

work.run(
  () => app.listen({ port: work.port }),
  () => app.close().then(() => process.exit(0)),
)
