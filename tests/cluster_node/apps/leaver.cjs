// Disconnects from the cluster when a message requests it, in the way that the message names.
const cluster = require('cluster')
const server = require('http').createServer((_, response) => response.end('here')).listen(0, '127.0.0.1')
process.on('message', (how) => {
  if (how === 'disconnect') cluster.worker.disconnect()
  if (how === 'kill') cluster.worker.kill()
  if (how === 'again') server.close(() => server.listen(0, '127.0.0.1'))
})
