// A web server that shuts down gracefully: at SIGINT it accepts no new connections, completes its open requests, and
// exits.
//
//   PORT=3000 pmr start examples/http/server.js -i max
const http = require('node:http')

const worker = process.env.NODE_APP_INSTANCE ?? '0'

const server = http.createServer((request, response) => {
  response.end(JSON.stringify({ worker, pid: process.pid, path: request.url }) + '\n')
})

server.listen(process.env.PORT ?? 3000, () => console.log(`worker ${worker} listens on ${server.address().port}`))

process.on('SIGINT', () => {
  console.log(`worker ${worker} leaves`)
  server.close(() => process.exit(0))
})
