// Load on a server, and an honest count of what became of each request.
//
//   node client.mjs '{"kind":"http","mode":"keep","port":3000,"clients":8}'
//
// `mode`: `keep` asks one thing after the other on connections that stay open until the server ends them; `new` opens
// one for each request; `few` closes each after some requests, as clients do that have asked all. `count` instead of
// `clients`: one client, so many requests, then the end. A line on standard input is answered by the tally so far, as a
// line of JSON; its end stops the load and is answered by the last tally.
//
// Over HTTP/1: `path` asks for this only, `pid` is the pattern of the pid in an answer, and with `again` a client does
// what browsers and RFC 9112 (9.3.1) do: where a connection that has served before ends without a byte of an answer, it
// asks once more on a new one. Those are counted as `stale`, and as failed only if the second try fails.
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'

const LIMIT = 5000
const THINK = 4
const FEW = 25
const options = JSON.parse(process.argv[2])
const { kind, mode, port, clients = 1, count = Infinity, path: only, pid: pattern = '^(\\d+)', again = false } = options
const pidIn = new RegExp(pattern)
const require = createRequire(new URL('../../examples/node/package.json', import.meta.url))
const tally = { answered: 0, by: {}, stale: 0, failed: [] }

class Failure extends Error {
  constructor(how, what) {
    super(what)
    this.how = how
  }
}

const named = (error, begun) => {
  if (error instanceof Failure) return error
  const how = error.code === 'ECONNREFUSED' ? 'refused' : begun ? 'truncated' : 'reset'
  return new Failure(how, `${error.code ?? ''} ${error.message}`)
}

// The promise, or a `hung` after the limit, when `abandon` gets rid of what hangs.
const inTime = (promise, what, abandon) => {
  let timer
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => {
      reject(new Failure('hung', what))
      abandon()
    }, LIMIT)
  })
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer))
}

// HTTP/1: the agent has one connection at a time, and opens another when the server has ended it.
const overHttp = (module) => async () => {
  const agent = new module.Agent({ keepAlive: mode !== 'new', maxSockets: 1 })
  let request
  const ask = (path) =>
    new Promise((resolve, reject) => {
      let begun = false
      request = module.get({ port, host: '127.0.0.1', path, agent, rejectUnauthorized: false }, (response) => {
        begun = true
        let body = ''
        response.setEncoding('utf8').on('data', (text) => (body += text))
        response.on('error', (error) => reject(named(error, true)))
        response.on('end', () =>
          response.statusCode === 200 ? resolve(body) : reject(new Failure('wrong', `${response.statusCode} ${body}`)),
        )
      })
      const stale = () => again && request.reusedSocket && !begun
      request.on('error', (error) => reject(stale() ? new Failure('stale', error.message) : named(error, begun)))
    })
  return { ask, ended: () => false, close: () => (request?.destroy(), agent.destroy()) }
}

const overHttp2 = () =>
  new Promise((resolve, reject) => {
    const session = http2.connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false })
    const ask = (path) =>
      new Promise((resolve, reject) => {
        let [body, status] = ['']
        const stream = session.request({ ':path': path })
        stream.setEncoding('utf8').on('data', (text) => (body += text))
        stream.on('response', (headers) => (status = headers[':status']))
        stream.on('error', (error) => reject(named(error, status !== undefined)))
        stream.on('end', () => {
          if (stream.rstCode || status === undefined) reject(new Failure('reset', `stream ended with ${stream.rstCode}`))
          else if (status === 200) resolve(body)
          else reject(new Failure('wrong', `${status} ${body}`))
        })
        stream.on('close', () => reject(new Failure('reset', `stream closed with ${stream.rstCode}`)))
        stream.end()
      })
    session.on('error', (error) => reject(named(error)))
    const ended = () => session.closed || session.destroyed
    session.on('connect', () => resolve({ ask, ended, close: () => session.destroy() }))
  })

// For the protocols of the examples: one question at a time, the next answer is its. `bye` means: ask no more here.
const inTurn = (send, closed, close) => {
  let waiting
  let bye = false
  return {
    ask: (text) =>
      new Promise((resolve, reject) => {
        waiting = { resolve, reject }
        send(text)
      }),
    hear: (text) => (text === 'bye' ? (bye = true) : waiting?.resolve(text)),
    fail: (error) => waiting?.reject(error),
    ended: () => bye || closed(),
    close,
  }
}

const overNet = () =>
  new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1')
    const over = () => socket.readableEnded || socket.destroyed
    const turns = inTurn((text) => socket.write(`${text}\n`), over, () => socket.destroy())
    socket.on('connect', () => resolve(turns))
    let text = ''
    socket.setEncoding('utf8').on('data', (more) => {
      const lines = (text + more).split('\n')
      text = lines.pop()
      lines.forEach(turns.hear)
    })
    socket.on('error', (error) => (reject(named(error)), turns.fail(named(error, text !== ''))))
    socket.on('end', () => turns.fail(new Failure(text ? 'truncated' : 'reset', 'ended')))
  })

const overWs = () =>
  new Promise((resolve, reject) => {
    const { WebSocket } = require('ws')
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`)
    const turns = inTurn((text) => socket.send(text), () => socket.readyState !== WebSocket.OPEN, () => socket.terminate())
    socket.on('open', () => resolve(turns))
    socket.on('message', (data) => turns.hear(String(data)))
    socket.on('error', (error) => (reject(named(error)), turns.fail(named(error))))
    socket.on('close', (code) => (reject(new Failure('reset', 'closed')), turns.fail(new Failure('reset', `closed: ${code}`))))
  })

const open = { http: overHttp(http), https: overHttp(https), http2: overHttp2, net: overNet, ws: overWs }[kind]
const start = Date.now()
let stopping = false

const client = async () => {
  let connection
  let pid
  for (let n = 0; n < count && !stopping; n++) {
    try {
      if (!connection || connection.ended()) {
        connection?.close()
        connection = pid = undefined
        connection = await inTime(open(), 'connecting', () => {})
      }
      const path = only ?? (n % 4 === 3 ? '/work' : '/')
      const answer = await inTime(connection.ask(path), 'no answer', connection.close)
      pid = Number(pidIn.exec(answer)?.[1])
      if (!pid) throw new Failure('wrong', `answer ${JSON.stringify(answer)}`)
      tally.answered++
      tally.by[pid] = (tally.by[pid] ?? 0) + 1
    } catch (error) {
      const failure = named(error)
      if (failure.how === 'stale') {
        tally.stale++
        n--
        continue
      }
      tally.failed.push({ how: failure.how, what: failure.message, pid, at: Date.now() - start })
      connection?.close()
      connection = undefined
    }
    if (mode === 'new' || (mode === 'few' && n % FEW === FEW - 1)) {
      connection?.close()
      connection = undefined
    }
    await pause(count === Infinity ? THINK : 0)
  }
  connection?.close()
}

const tell = (then) => process.stdout.write(`${JSON.stringify(tally)}\n`, then)
const all = Promise.all(Array.from({ length: clients }, client))
createInterface({ input: process.stdin })
  .on('line', () => tell())
  .on('close', () => (stopping = true))
await all
tell(() => process.exit(0))
