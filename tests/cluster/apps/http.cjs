// Node's own http.
const http = require('node:http')
const { answer } = require('./plain.cjs')
const { port, run } = require('./work.cjs')

const server = http.createServer(answer)
run(
  () => server.listen(port),
  () => server.close(() => process.exit(0)),
)
