// Listens in all forms that Node has and reports the result of each.
const http = require('http')
const net = require('net')

const [, , path, taken] = process.argv
const report = {}
const ways = {
  any: (s) => s.listen(0),
  anyAgain: (s) => s.listen(0),
  v4: (s) => s.listen(0, '127.0.0.1'),
  v6only: (s) => s.listen({ port: 0, host: '::1', ipv6Only: true }),
  name: (s) => s.listen({ port: 0, host: 'localhost', backlog: 77 }),
  path: (s) => s.listen({ path, writableAll: true }),
  exclusive: (s) => s.listen({ port: 0, host: '127.0.0.1', exclusive: true }),
  taken: (s) => s.listen(Number(taken), '127.0.0.1'),
  fd: (s) => s.listen({ fd: 9 })
}
let left = Object.keys(ways).length
for (const [name, listen] of Object.entries(ways)) {
  const server = name === 'path' ? net.createServer((s) => s.end('raw')) : http.createServer((_, r) => r.end(name))
  const done = (result) => {
    report[name] = result
    if (--left === 0) process.send(report)
  }
  server.on('error', (error) => done(error.code))
  listen(server)
  server.on('listening', () => done(server.address()))
}
