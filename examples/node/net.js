// A protocol of its own on plain TCP: each line is answered by one.   PORT=3000 pmr start net.js -i 4
const net = require('node:net')
const readline = require('node:readline')

const open = new Set()
let leaving = false

const server = net.createServer((socket) => {
  open.add(socket)
  socket.on('error', () => {}).on('close', () => open.delete(socket))
  readline.createInterface({ input: socket }).on('line', (line) => {
    socket.write(`${process.pid} ${line}\n`)
    if (leaving) socket.end() // behind an answer: who asks one thing after the other has nothing on the way
  })
})
server.listen(process.env.PORT)

if (process.env.GRACEFUL !== 'no') {
  process.on('SIGINT', () => {
    leaving = true
    server.close(() => process.exit(0))
    setTimeout(() => open.forEach((socket) => socket.end()), 500) // those that ask nothing
  })
}
