// Socket.IO clients over HTTP long polling, each from an address of its own in 127.0.0.0/8. Prints one line of JSON: how
// often clients asked, what failed, and the pids that answered each.
import { createRequire } from 'node:module'
import http from 'node:http'

const [folder, port, clients, rounds] = process.argv.slice(2)
const { io } = createRequire(folder + '/')('socket.io-client')
const result = { asked: 0, failed: [], pids: [] }

async function visit(number) {
  const agent = new http.Agent({ localAddress: `127.0.1.${number + 1}`, keepAlive: false })
  const socket = io(`http://127.0.0.1:${port}`, { transports: ['polling'], agent, forceNew: true, reconnection: false })
  const pids = new Set()
  try {
    await new Promise((resolve, reject) => socket.on('connect', resolve).on('connect_error', reject))
    for (let round = 0; round < Number(rounds); round++) {
      pids.add(await socket.timeout(5000).emitWithAck('who'))
      result.asked++
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
