// A protocol of its own over plain TCP: each line is answered by one line, and `bye` means: send no further request on
// this connection. Health checks use HTTP.
const net = require('node:net')
const readline = require('node:readline')
const { setTimeout: pause } = require('node:timers/promises')
const work = require('./work.cjs')

const answers = {
  '/': work.quick,
  '/work': work.work,
  '/large': () => (answers.large ??= Buffer.from(work.large().toString('latin1').replace('\n', ' ') + '\n')),
  '/long': () => pause(2000, work.quick()),
  '/grow': work.grow,
}

const open = new Set()
const server = net.createServer((socket) => {
  open.add(socket)
  socket.on('close', () => open.delete(socket))
  const lines = readline.createInterface({ input: socket })
  lines.on('line', async (line) => {
    if (line.startsWith('GET ')) return socket.end(`HTTP/1.0 ${work.sick ? 503 : 200} ${process.pid}\r\n\r\n`)
    if (work.sick) return socket.destroy()
    const size = line.length - '/upload '.length
    if (size > 0) socket.write(`${process.pid} ${size}\n`)
    else if (line in answers) socket.write(await answers[line]())
  })
  lines.on('error', () => {}) // the client has gone
})

// Only the protocol itself can tell clients to reconnect. They are served until they close.
work.run(
  () => server.listen(work.port),
  () => {
    server.close(() => process.exit(0))
    open.forEach((socket) => socket.write('bye\n'))
  },
)
