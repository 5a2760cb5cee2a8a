// Node's own https.
const https = require('node:https')
const { answer } = require('./plain.cjs')
const { port, run, serves, tls } = require('./work.cjs')

const server = https.createServer(tls(), answer)
run(
  () => server.listen(port, serves),
  () => server.close(() => process.exit(0)),
)
