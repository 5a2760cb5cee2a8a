// Node's own https.
const https = require('node:https')
const { answer } = require('./plain.cjs')
const { port, run, tls } = require('./work.cjs')

const server = https.createServer(tls(), answer)
run(
  () => server.listen(port),
  () => server.close(() => process.exit(0)),
)
