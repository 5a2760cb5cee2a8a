// A web server with a health check at /healthz. RELEASE says what becomes of that: good, sick (500 from the start), wilts
// (500 when it has been asked some times). /sicken and /heal make it so, /hang leaves the check unanswered.
const http = require('node:http')

const release = process.env.RELEASE
let health = release === 'sick' ? 500 : 200
if (release === 'sick') console.error('this release is sick')
let asked = 0

http.createServer((request, response) => {
  if (request.url === '/sicken') health = 500
  if (request.url === '/heal') health = 200
  if (request.url === '/hang') health = 0
  if (request.url === '/healthz') {
    if (release === 'wilts' && ++asked > 3) health = 500
    if (health === 0) return
    response.statusCode = health
  }
  response.end(`${process.pid}\n`)
}).listen(process.env.PORT)
