// Socket.IO by its own client, over a WebSocket: long polling needs a balance by client address, which not every
// process manager has. With `retries` the client repeats, on the next connection, what was not acknowledged when a
// connection ended, and has one request in flight at a time. `repeated` gets their number. A large answer is preceded
// by its pieces.
import { createRequire } from 'node:module'
import { Answer, reader } from './answer.mjs'
import { Failure } from './failure.mjs'

const require = createRequire(new URL('../../../examples/node/package.json', import.meta.url))
const UPLOAD = 'x'.repeat(1 << 20)
const AGAIN = { retries: 5, ackTimeout: 60_000, reconnectionDelay: 50, reconnectionDelayMax: 200 }

export const openSocketio = ({ port, pace, heard, repeated }) =>
  new Promise((resolve, reject) => {
    const { io } = require('socket.io-client')
    const socket = io(`http://127.0.0.1:${port}`, { forceNew: true, transports: ['websocket'], ...AGAIN })
    const take = reader(pace)
    let [asking, before] = [0, 0]
    const ask = (path) =>
      new Promise((resolve, reject) => {
        asking++
        socket.emit('ask', path, path === '/upload' ? UPLOAD : '', (error, text) => {
          asking--
          if (error) return reject(new Failure('reset', error.message))
          const answer = new Answer()
          answer.add(Buffer.from(text))
          answer.length += before
          before = 0
          resolve(answer)
        })
      })
    const close = () => socket.disconnect()
    socket.io.on('open', () => {
      const { ws } = socket.io.engine.transport
      ws.on('message', (bytes) => {
        heard()
        take(ws, bytes)
      })
    })
    socket.on('piece', (bytes) => (before += bytes.length))
    socket.once('connect', () => resolve({ ask, ended: () => false, close }))
    socket.on('disconnect', () => {
      before = 0
      repeated(Math.min(asking, 1))
    })
    socket.io.once('reconnect_failed', () => reject(new Failure('refused', 'reconnect_failed')))
  })
