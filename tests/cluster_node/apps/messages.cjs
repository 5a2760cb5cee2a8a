// Sends back what it gets; on 'handle' sends a socket along, and something behind it.
const net = require('net')
process.on('message', (message) => {
  if (message !== 'handle') return process.send(message)
  const socket = new net.Socket()
  const server = net.createServer().listen({ port: 0, exclusive: true }, () => {
    process.send({ with: 'a handle' }, server)
    process.send('behind it')
  })
  void socket
})
process.send('ready')
