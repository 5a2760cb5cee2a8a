// HTTP/2: one session, one stream at a time.
import http2 from 'node:http2'
import { Answer } from './answer.mjs'
import { Failure, named } from './failure.mjs'

export const openHttp2 = ({ port, heard }) =>
  new Promise((resolve, reject) => {
    const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false })
    const ask = (path) =>
      new Promise((resolve, reject) => {
        const answer = new Answer()
        let status
        const stream = session.request({ ':path': path })
        stream.on('data', (bytes) => (heard(), answer.add(bytes)))
        stream.on('response', (headers) => (heard(), (status = headers[':status'])))
        stream.on('error', (error) => reject(named(error, status !== undefined)))
        stream.on('end', () => {
          if (stream.rstCode || status === undefined) reject(new Failure('reset', `stream ended with ${stream.rstCode}`))
          else if (status === 200) resolve(answer)
          else reject(new Failure('wrong', `${status} ${answer.head}`))
        })
        stream.on('close', () => reject(new Failure('reset', `stream closed with ${stream.rstCode}`)))
        stream.end()
      })
    session.on('error', (error) => reject(named(error)))
    const ended = () => session.closed || session.destroyed
    session.on('connect', () => resolve({ ask, ended, close: () => session.destroy() }))
  })
