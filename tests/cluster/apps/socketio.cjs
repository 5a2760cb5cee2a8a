// Socket.IO: each request is acknowledged with its answer.
const http = require('node:http')
const { setTimeout: pause } = require('node:timers/promises')
const work = require('./work.cjs')
const { Server } = work.require('socket.io')

const PIECE = Buffer.alloc(1 << 18, 'x')

const answers = {
  '/': work.quick,
  '/work': work.work,
  '/long': () => pause(2000, work.quick()),
  '/upload': (body) => `${process.pid} ${body.length}`,
  '/grow': work.grow,
}

const web = http.createServer((request, response) => response.writeHead(work.sick ? 503 : 200).end(work.quick()))
const io = new Server(web, { maxHttpBufferSize: 1 << 22, allowRequest: (request, allow) => allow(null, !work.sick) })
io.on('connection', (socket) => {
  socket.on('ask', async (question, body, answer) => {
    if (question !== '/large') return answer(await answers[question](body))
    for (let n = 0; n < 64; n++) socket.emit('piece', PIECE)
    answer(work.quick())
  })
})

work.run(
  () => web.listen(work.port),
  () => io.close(() => process.exit(0)),
)
