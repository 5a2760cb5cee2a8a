// WebSockets, with `ws`: each message is answered by one.   npm ci && PORT=3000 pmr start ws.js -i 4
const { WebSocketServer } = require('ws')

const server = new WebSocketServer({ port: process.env.PORT })
server.on('connection', (socket) => {
  socket.on('message', (message) => socket.send(`${process.pid} ${message}`))
})

// Only the app itself can tell its clients to reconnect. pmr serves them until they close their connections.
if (process.env.GRACEFUL !== 'no') {
  process.on('SIGINT', () => {
    server.close(() => process.exit(0))
    server.clients.forEach((socket) => socket.send('bye'))
  })
}
