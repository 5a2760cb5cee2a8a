// An HTTPS server that answers whether the TLS session was resumed.
const fs = require('fs')
const pem = fs.readFileSync(`${__dirname}/localhost.pem`)
require('https')
  .createServer({ key: pem, cert: pem }, (request, response) => {
    response.end(JSON.stringify({ pid: process.pid, reused: request.socket.isSessionReused() }))
  })
  .listen(0, '127.0.0.1')
