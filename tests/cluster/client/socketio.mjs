// Socket.IO as its own client speaks it, over a WebSocket: long polling takes a balance by client address, which not every
// process manager has. `retries` is its own way to ask again, on the next connection, what was not acknowledged when one
// ended.
import { createRequire } from 'node:module'
import { Answer } from './answer.mjs'
import { Failure } from './failure.mjs'

const require = createRequire(new URL('../../../examples/node/package.json', import.meta.url))
const UPLOAD = 'x'.repeat(1 << 20)
const AGAIN = { retries: 5, ackTimeout: 4000, reconnectionDelay: 50, reconnectionDelayMax: 200 }

export const openSocketio = ({ port }) =>
  new Promise((resolve, reject) => {
    const { io } = require('socket.io-client')
    const socket = io(`http://127.0.0.1:${port}`, { forceNew: true, transports: ['websocket'], ...AGAIN })
    const ask = (path) =>
      new Promise((resolve, reject) => {
        socket.emit('ask', path, path === '/upload' ? UPLOAD : '', (error, text) => {
          if (error) return reject(new Failure('reset', error.message))
          const answer = new Answer()
          answer.add(Buffer.from(text, 'latin1'))
          resolve(answer)
        })
      })
    const close = () => socket.disconnect()
    socket.once('connect', () => resolve({ ask, ended: () => false, close }))
    socket.io.once('reconnect_failed', () => reject(new Failure('refused', 'reconnect_failed')))
  })
