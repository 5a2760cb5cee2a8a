// Node's own https.   PORT=3443 TLS_KEY=key.pem TLS_CERT=cert.pem pmr start https.js -i 4
// A certificate to try it:
//   openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout key.pem -out cert.pem
const fs = require('node:fs')
const https = require('node:https')

const tls = { key: fs.readFileSync(process.env.TLS_KEY), cert: fs.readFileSync(process.env.TLS_CERT) }
const server = https.createServer(tls, (request, response) => {
  setTimeout(() => response.end(`${process.pid}\n`), request.url === '/work' ? 30 : 0)
})
server.listen(process.env.PORT)

if (process.env.GRACEFUL !== 'no') process.on('SIGINT', () => server.close(() => process.exit(0)))
