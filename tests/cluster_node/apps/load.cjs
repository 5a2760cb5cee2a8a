// Clients that send requests without a pause until standard input ends: load.cjs KIND PORT. KIND is keep, new or h2.
// Prints how many requests succeeded, how many failed and why, and which workers answered.
const http = require('http')
const http2 = require('http2')
const [, , kind, port] = process.argv
let over = false
process.stdin.on('end', () => (over = true)).resume()
const result = { good: 0, failed: 0, reasons: {}, workers: {} }

const agent = new http.Agent({ keepAlive: kind === 'keep', maxSockets: Infinity })
const overHttp = () =>
  new Promise((resolve, reject) => {
    const request = http.get({ host: '127.0.0.1', port, agent, timeout: 60_000 }, (response) => {
      let body = ''
      response.on('data', (data) => (body += data)).on('end', () => resolve(body))
      response.on('aborted', () => reject(new Error('truncated')))
    })
    request.on('timeout', () => request.destroy(new Error('hung'))).on('error', reject)
  })

// One session for each client, replaced when the server sends GOAWAY.
const overHttp2 = () => {
  let session
  return () =>
    new Promise((resolve, reject) => {
      if (!session || session.closed || session.destroyed) {
        const fresh = http2.connect(`http://127.0.0.1:${port}`)
        fresh.on('goaway', () => fresh === session && (session = undefined)).on('error', () => {})
        session = fresh
      }
      const stream = session.request({ ':path': '/' })
      let body = ''
      stream.on('data', (data) => (body += data)).on('error', reject)
      stream.on('end', () => (body ? resolve(body) : reject(new Error('empty'))))
      stream.setTimeout(60_000, () => reject(new Error('hung')))
    })
}

const clients = Array.from({ length: 8 }, async () => {
  const ask = kind === 'h2' ? overHttp2() : overHttp
  while (!over) {
    await ask().then(
      (pid) => {
        result.good++
        result.workers[pid] = (result.workers[pid] || 0) + 1
      },
      (error) => {
        result.failed++
        result.reasons[error.message] = (result.reasons[error.message] || 0) + 1
      }
    )
  }
})
Promise.all(clients).then(() => {
  console.log(JSON.stringify(result))
  process.exit(0)
})
