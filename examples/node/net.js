// A protocol of its own on plain TCP: each line is answered by one.   PORT=3000 pmr start net.js -i 4
const net = require('node:net')
const readline = require('node:readline')

const open = new Set()

const server = net.createServer((socket) => {
  open.add(socket)
  socket.on('close', () => open.delete(socket))
  const lines = readline.createInterface({ input: socket })
  lines.on('line', (line) => socket.write(`${process.pid} ${line}\n`))
  lines.on('error', () => {}) // the client has gone
})
server.listen(process.env.PORT)

// Only the protocol itself can tell its clients to reconnect. pmr serves them until they close their connections.
if (process.env.GRACEFUL !== 'no') {
  process.on('SIGINT', () => {
    server.close(() => process.exit(0))
    open.forEach((socket) => socket.write('bye\n'))
  })
}
