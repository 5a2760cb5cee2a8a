// Pipelined uploads over HTTP/1.1: requests are sent before earlier ones are answered, which Node's own client never
// does.
//
// RFC 9112, 9.3.2 and 9.6: answers come in the order of the requests. After one with `Connection: close` the server
// begins no further request, and the client sends the remaining ones on another connection.
import net from 'node:net'
import tls from 'node:tls'
import { Answer } from './answer.mjs'
import { Failure, named } from './failure.mjs'

const BODY = Buffer.alloc(1 << 20, 'x')

const HEADS_END = '\r\n\r\n'

// The first answer in these bytes; undefined if it is not complete.
const parse = (bytes) => {
  const end = bytes.indexOf(HEADS_END)
  if (end < 0) return undefined
  const head = bytes.toString('latin1', 0, end).toLowerCase()
  const status = Number(head.split(' ', 2)[1])
  const length = Number(/^content-length: *(\d+)/m.exec(head)?.[1] ?? NaN)
  if (Number.isNaN(length)) throw new Failure('wrong', `an answer without a length: ${head}`)
  const size = end + HEADS_END.length + length
  if (bytes.length < size) return undefined
  const answer = new Answer()
  answer.add(bytes.subarray(end + HEADS_END.length, size))
  return { status, answer, last: /^connection: *close/m.test(head), rest: bytes.subarray(size) }
}

const over =
  (connect, connected) =>
  ({ port, heard }) =>
    new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
      const waiting = []
      let over = false
      let bytes = Buffer.alloc(0)
      const fail = (failure) => {
        over = true
        reject(failure)
        waiting.splice(0).forEach((one) => one.reject(failure))
      }
      const hear = (found) => {
        bytes = found.rest
        const { resolve, reject } = waiting.shift()
        if (found.status === 200) resolve(found.answer)
        else reject(new Failure('wrong', `${found.status} ${found.answer.head}`))
        if (found.last) {
          fail(new Failure('again', 'behind an answer with `Connection: close`'))
          socket.destroy()
        }
      }
      socket.on('data', (more) => {
        heard()
        bytes = Buffer.concat([bytes, more])
        try {
          for (let found; waiting.length > 0 && (found = parse(bytes)); ) hear(found)
        } catch (failure) {
          fail(failure)
        }
      })
      socket.on('error', (error) => fail(named(error, bytes.length > 0)))
      socket.on('close', () => fail(new Failure(bytes.length > 0 ? 'truncated' : 'reset', 'closed')))
      const ask = (path) =>
        new Promise((resolve, reject) => {
          waiting.push({ resolve, reject })
          const head = `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream`
          socket.write(`${head}\r\nContent-Length: ${BODY.length}${HEADS_END}`)
          socket.write(BODY)
        })
      socket.on(connected, () => resolve({ ask, ended: () => over, close: () => socket.destroy() }))
    })

export const pipelineHttp = over(net.connect, 'connect')
export const pipelineHttps = over(tls.connect, 'secureConnect')
