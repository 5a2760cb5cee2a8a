// The same small web server for all ways to share a port: `node web.cjs [reuseport | cluster]`.
const cluster = require('node:cluster')
const http = require('node:http')

if (process.argv[2] === 'cluster' && cluster.isPrimary) {
  for (let n = 0; n < 2; n++) cluster.fork()
} else {
  const server = http.createServer((request, response) => response.end('hello\n'))
  server.listen({ port: process.env.PORT, host: '127.0.0.1', reusePort: process.argv[2] === 'reuseport' })
}
