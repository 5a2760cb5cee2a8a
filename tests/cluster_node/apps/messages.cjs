// Sends each message back; on 'handle' it sends a message with a server handle, and another message after it.
const net = require('net')
process.on('message', (message) => {
  if (message !== 'handle') return process.send(message)
  const server = net.createServer().listen({ port: 0, exclusive: true }, () => {
    process.send({ with: 'a handle' }, server)
    process.send('behind it')
  })
})
process.send('ready')
