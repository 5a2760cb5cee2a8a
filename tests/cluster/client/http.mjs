// HTTP/1 by Node's own client. The agent has one connection at a time, and opens another when the server has ended it.
// `pid` is the worker of the current connection, once that has answered.
import http from 'node:http'
import https from 'node:https'
import { Answer, reader } from './answer.mjs'
import { Failure, named } from './failure.mjs'

const over =
  (module) =>
  async ({ port, asks, pace, again, heard }) => {
    const agent = new module.Agent({ keepAlive: asks !== 1, maxSockets: 1 })
    const connection = { ended: () => false, close: () => (request?.destroy(), agent.destroy()) }
    const take = reader(pace)
    let [request, present] = []
    connection.ask = (path) =>
      new Promise((resolve, reject) => {
        let begun = false
        request = module.get({ port, host: '127.0.0.1', path, agent, rejectUnauthorized: false }, (response) => {
          begun = true
          heard()
          const answer = new Answer()
          response.on('data', (bytes) => {
            heard()
            answer.add(bytes)
            connection.pid = parseInt(answer.head) || undefined
            take(response, bytes)
          })
          response.on('error', (error) => reject(named(error, true)))
          response.on('end', () => {
            const { statusCode, headers } = response
            const missing = headers['content-length'] - answer.length
            if (missing > 0) reject(new Failure('truncated', `${missing} bytes are missing`))
            else if (statusCode === 200) resolve(answer)
            else reject(new Failure('wrong', `${statusCode} ${answer.head}`))
          })
        })
        const stale = () => again && request.reusedSocket && !begun
        request.on('socket', (socket) => {
          if (socket !== present) connection.pid = undefined
          present = socket
        })
        request.on('error', (error) => reject(stale() ? new Failure('stale', error.message) : named(error, begun)))
      })
    return connection
  }

export const openHttp = over(http)
export const openHttps = over(https)
