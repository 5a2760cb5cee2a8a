// An HTTP server that answers with its pid. `/block` stops its event loop, `/slow` is answered late, `/held` when the
// worker drains.
const http = require('http')

const server = http.createServer((request, response) => {
  if (request.url === '/block') {
    process.send('blocked')
    for (;;);
  }
  const answer = () => response.end(String(process.pid))
  if (request.url === '/held') {
    process.on('internalMessage', ({ act }) => act === 'drain' && setImmediate(answer))
    return process.send('held')
  }
  request.url === '/slow' ? setTimeout(answer, 300) : answer()
})
server.keepAliveTimeout = process.argv[2] === 'patient' ? 0 : 1000
if (process.argv[2] === 'one') server.maxConnections = 1
server.listen(0, '127.0.0.1')
