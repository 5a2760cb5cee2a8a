// PORT=3000 pmr start npm -i 4 -- start
const http = require('node:http')

const server = http.createServer((request, response) => {
  setTimeout(() => response.end(`${process.pid}\n`), request.url === '/work' ? 30 : 0)
})
server.listen(process.env.PORT ?? 3000)
