// A plain web server; it knows nothing of clusters.   PORT=3000 pmr start examples/servers/server.js -i 4
const http = require('node:http')

http.createServer((request, response) => response.end(`${process.pid}\n`)).listen(process.env.PORT ?? 3000)
