// Answers every request with its pid, at PORT.
require('http').createServer((_, response) => response.end(String(process.pid))).listen(process.env.PORT, '127.0.0.1')
