// WebSockets, with `ws`: each message is answered by one, and `bye` means: send no further request on this connection.
const http = require('node:http')
const { setTimeout: pause } = require('node:timers/promises')
const work = require('./work.cjs')
const { WebSocketServer } = work.require('ws')

const PIECE = Buffer.alloc(1 << 18, 'x')

const answers = {
  '/': work.quick,
  '/work': work.work,
  '/long': () => pause(2000, work.quick()),
  '/grow': work.grow,
}

const web = http.createServer((request, response) => response.writeHead(work.sick ? 503 : 200).end(work.quick()))
const server = new WebSocketServer({ noServer: true })
web.on('upgrade', (request, socket, head) => {
  if (work.sick) return socket.end('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n')
  server.handleUpgrade(request, socket, head, (socket) => {
    socket.on('error', () => {}) // the client has gone
    socket.on('message', async (message) => {
      const question = String(message)
      if (question.startsWith('/upload ')) return socket.send(`${process.pid} ${question.length - '/upload '.length}`)
      if (question !== '/large') return socket.send(await answers[question]())
      for (let n = 0; n < 64; n++) socket.send(PIECE)
      socket.send(work.quick())
    })
  })
})

// Only the app itself can tell clients to reconnect. They are served until they close.
work.run(
  () => web.listen(work.port),
  () => {
    web.close(() => process.exit(0))
    server.clients.forEach((socket) => socket.send('bye'))
  },
)
