// WebSockets, with `ws`: each message is answered by one.   npm ci && PORT=3000 pmr start ws.js -i 4
const { WebSocketServer } = require('ws')

let leaving = false
const goingAway = 1001

const server = new WebSocketServer({ port: process.env.PORT })
server.on('connection', (socket) => {
  socket.on('message', (message) => {
    socket.send(`${process.pid} ${message}`)
    if (leaving) socket.close(goingAway) // behind an answer: who asks one thing after the other has nothing on the way
  })
})

if (process.env.GRACEFUL !== 'no') {
  process.on('SIGINT', () => {
    leaving = true
    server.close(() => process.exit(0))
    setTimeout(() => server.clients.forEach((socket) => socket.close(goingAway)), 500) // those that ask nothing
  })
}
