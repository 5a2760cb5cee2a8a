// Socket.IO over HTTP long polling.   PORT=3000 pmr start socketio.js -i 4 --balance sticky
const http = require('node:http')
const { Server } = require('socket.io')

const server = http.createServer((request, response) => response.end(`${process.pid}\n`))
new Server(server, { transports: ['polling'] }).on('connection', (socket) => {
  socket.on('who', (answer) => answer(process.pid))
})
server.listen(process.env.PORT)
