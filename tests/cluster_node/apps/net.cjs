// A raw echo server.
require('net').createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(0, '127.0.0.1')
