// Answers datagrams.
const socket = require('dgram').createSocket('udp4')
socket.on('message', (text, from) => socket.send(`${process.pid} ${text}`, from.port, from.address))
socket.bind(0, '127.0.0.1')
