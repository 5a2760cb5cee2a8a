// Node's own http.   PORT=3000 pmr start http.js -i 4
const http = require('node:http')

const server = http.createServer((request, response) => {
  setTimeout(() => response.end(`${process.pid}\n`), request.url === '/work' ? 30 : 0)
})
server.listen(process.env.PORT)

if (process.env.GRACEFUL !== 'no') process.on('SIGINT', () => server.close(() => process.exit(0)))
