// A clear-text HTTP/2 server.
const http2 = require('http2')
http2
  .createServer((_, response) => setTimeout(() => response.end(String(process.pid)), 2))
  .listen(0, '127.0.0.1')
