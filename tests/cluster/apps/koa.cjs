// Koa.
const work = require('./work.cjs')
const Koa = work.require('koa')

const answers = {
  '/': work.quick,
  '/work': work.work,
  '/large': work.large,
  '/long': work.long,
  '/upload': ({ req }) => work.upload(req),
  '/grow': work.grow,
}

const app = new Koa()
app.silent = true
app.use(async (context) => {
  if (work.sick) context.throw(503)
  context.body = await answers[context.path](context)
})

let server
work.run(
  () => (server = app.listen(work.port)),
  () => server.close(() => process.exit(0)),
)
