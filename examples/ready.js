// An app that signals readiness: it warms up, reports that it is ready, and then serves.
//
//   pmr start examples/ready.js --wait-ready --listen-timeout 10s
const http = require('node:http')

const warmUp = Number(process.env.WARM_UP ?? 300)

setTimeout(() => {
  const server = http.createServer((request, response) => response.end('warm\n'))
  server.listen(process.env.PORT ?? 0, () => {
    console.log(`warm after ${warmUp} ms`)
    process.send?.('ready')
  })
  process.on('SIGINT', () => server.close(() => process.exit(0)))
}, warmUp)
