// Koa.   npm ci && PORT=3000 pmr start koa.js -i 4
const Koa = require('koa')

const app = new Koa()
app.use(async (context) => {
  if (context.path === '/work') await new Promise((done) => setTimeout(done, 30))
  context.body = `${process.pid}\n`
})
const server = app.listen(process.env.PORT)

if (process.env.GRACEFUL !== 'no') process.on('SIGINT', () => server.close(() => process.exit(0)))
