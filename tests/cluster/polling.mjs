// Socket.IO clients over HTTP long polling, each from an address of its own in 127.0.0.0/8. Prints one line of JSON:
// the number of answered requests, the failures, and the pids that answered each client.
//
// With a number of rounds no request is repeated. Without, clients send requests until standard input ends, with
// Socket.IO's options for servers that restart: a client reconnects, and repeats what was not acknowledged. Each client
// sends its last request after that end. A line before the JSON reports that each client has been answered once.
import { createRequire } from 'node:module'
import http from 'node:http'

const [folder, port, clients, rounds = Infinity] = process.argv.slice(2)
const { io } = createRequire(folder + '/')('socket.io-client')
const persistent = { retries: 5, ackTimeout: 60_000, reconnectionDelay: 50, reconnectionDelayMax: 200 }
const fleeting = { ackTimeout: 60_000, reconnection: false }
const result = { asked: 0, failed: [], pids: [] }
let over = false
let answered = 0
process.stdin.on('end', () => (over = true)).resume()

async function visit(number) {
  const agent = new http.Agent({ localAddress: `127.0.1.${number + 1}`, keepAlive: false })
  const ways = rounds === Infinity ? persistent : fleeting
  const socket = io(`http://127.0.0.1:${port}`, { transports: ['polling'], agent, forceNew: true, ...ways })
  const pids = new Set()
  try {
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve)
      if (rounds !== Infinity) socket.once('connect_error', reject)
    })
    for (let [round, last] = [0, false]; round < Number(rounds) && !last; round++) {
      last = over && rounds === Infinity
      pids.add(await socket.emitWithAck('who'))
      result.asked++
      if (round === 0 && ++answered === Number(clients) && rounds === Infinity) console.log('all have been answered')
    }
  } catch (error) {
    result.failed.push(String(error.message))
  }
  socket.disconnect()
  result.pids.push([...pids])
}

await Promise.all(Array.from({ length: Number(clients) }, (_, number) => visit(number)))
console.log(JSON.stringify(result))
process.exit(0)
