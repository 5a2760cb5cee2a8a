// The protocols of the examples, lines over TCP and WebSocket messages: answers come in the order of the requests.
// `bye` means: send no further request on this connection.
import net from 'node:net'
import { createRequire } from 'node:module'
import { Answer, reader } from './answer.mjs'
import { Failure, named } from './failure.mjs'

const require = createRequire(new URL('../../../examples/node/package.json', import.meta.url))
const UPLOAD = 'x'.repeat(1 << 20)

const asked = (path) => (path === '/upload' ? `${path} ${UPLOAD}` : path)

const inTurn = (send, closed, close) => {
  const waiting = []
  let bye = false
  return {
    ask: (path) =>
      new Promise((resolve, reject) => {
        waiting.push({ resolve, reject })
        send(asked(path))
      }),
    hear: (answer) => (answer.head === 'bye' ? (bye = true) : waiting.shift()?.resolve(answer)),
    fail: (failure) => waiting.splice(0).forEach(({ reject }) => reject(failure)),
    ended: () => bye || closed(),
    close,
  }
}

export const openNet = ({ port, pace, heard }) =>
  new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1')
    const over = () => socket.readableEnded || socket.destroyed
    const turns = inTurn((text) => socket.write(`${text}\n`), over, () => socket.destroy())
    const take = reader(pace)
    let answer = new Answer()
    const fail = (failure) => (reject(failure), turns.fail(failure))
    const cut = (what) => fail(new Failure(answer.length > 0 ? 'truncated' : 'reset', what))
    socket.on('connect', () => resolve(turns))
    socket.on('data', (bytes) => {
      heard()
      let start = 0
      for (let end; (end = bytes.indexOf(10, start)) >= 0; start = end + 1) {
        answer.add(bytes.subarray(start, end))
        turns.hear(answer)
        answer = new Answer()
      }
      answer.add(bytes.subarray(start))
      take(socket, bytes)
    })
    socket.on('error', (error) => fail(named(error, answer.length > 0)))
    socket.on('end', () => cut('ended'))
    socket.on('close', () => cut('closed'))
  })

// A large answer comes as binary messages with a text message after them.
export const openWs = ({ port, pace, heard }) =>
  new Promise((resolve, reject) => {
    const { WebSocket } = require('ws')
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`)
    const turns = inTurn((text) => socket.send(text), () => socket.readyState !== WebSocket.OPEN, () => socket.terminate())
    const take = reader(pace)
    let before = 0
    const fail = (failure) => (reject(failure), turns.fail(failure))
    socket.on('open', () => resolve(turns))
    socket.on('message', (data, binary) => {
      heard()
      take(socket, data)
      if (binary) return (before += data.length)
      const answer = new Answer()
      answer.add(data)
      answer.length += before
      before = 0
      turns.hear(answer)
    })
    socket.on('error', (error) => fail(named(error, before > 0)))
    socket.on('close', (code) => fail(new Failure(before > 0 ? 'truncated' : 'reset', `closed: ${code}`)))
  })
