// A web server with a health check at /healthz. RELEASE says how the check answers: good, sick (500 from the start),
// wilts (500 after some checks). /sicken makes it 500, and so does the file SICK/PID while it exists; /hang makes the
// check hang.
const fs = require('node:fs')
const http = require('node:http')

const release = process.env.RELEASE
let health = release === 'sick' ? 500 : 200
if (release === 'sick') console.error('this release is sick')
let asked = 0

const ill = () => process.env.SICK && fs.existsSync(`${process.env.SICK}/${process.pid}`)

http.createServer((request, response) => {
  if (request.url === '/sicken') health = 500
  if (request.url === '/hang') health = 0
  if (request.url === '/healthz') {
    if (release === 'wilts' && ++asked > 3) health = 500
    if (health === 0) return
    response.statusCode = ill() ? 500 : health
  }
  response.end(`${process.pid}\n`)
}).listen(process.env.PORT)
