// Puts load on a server, and counts the result of each request.
//
//   node client.mjs '{"kind":"http","mode":"keep","port":3000,"clients":8}'
//   node client.mjs '{"kind":"http","port":3000,"loads":{"keep":4,"new":4,"upload":2,"slow":2,"long":4}}'
//
// `kind` is the server's protocol. A load is a number of clients in one mode (`LOADS` below); `mode` and `clients` name a
// single load. `think`: ms between two requests. `count`: one client sends this many requests and ends. For each line
// on standard input the client prints the stats so far, as a line of JSON. The end of standard input stops the load,
// and the client prints the last stats.
//
// A request has hung when no byte came on its connection for `silence` ms, by default five seconds. Time in which this
// process did not run does not count, and is reported as `late` (client/clock.mjs).
//
// Over HTTP/1: `path` is the only path to request, `pid` is the pattern of the pid in an answer. With `again` a client
// does as browsers and RFC 9112 (9.3.1): if a connection that has served before ends without a byte of an answer, it
// repeats the request on a new connection. Those are counted as `stale`, and as failed only if the repetition fails.
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { late, now } from './client/clock.mjs'
import { Failure, named, unlessSilent } from './client/failure.mjs'
import { openHttp, openHttps } from './client/http.mjs'
import { openHttp2 } from './client/http2.mjs'
import { pipelineHttp, pipelineHttps } from './client/pipeline.mjs'
import { openSocketio } from './client/socketio.mjs'
import { openNet, openWs } from './client/turns.mjs'

const MB = 1 << 20

// `asks`: requests for each connection, after which the client closes it. `lanes`: requests in flight on one connection.
// `pace`: ms of pause after each 256 KB of an answer. `rest`: ms between two requests, instead of `think`.
const LOADS = {
  keep: { path: (n) => (n % 4 === 3 ? '/work' : '/') },
  new: { path: (n) => (n % 4 === 3 ? '/work' : '/'), asks: 1 },
  few: { path: (n) => (n % 4 === 3 ? '/work' : '/'), asks: 25 },
  upload: { path: () => '/upload', lanes: 3, rest: 50, whole: ({ head }) => Number(head.split(' ')[1]) === MB },
  slow: { path: () => '/large', pace: 20, whole: ({ length }) => length >= 16 * MB },
  long: { path: () => '/long' },
  grow: { path: () => '/grow' },
}

const PROTOCOLS = {
  http: { open: openHttp, pipeline: pipelineHttp },
  https: { open: openHttps, pipeline: pipelineHttps },
  http2: { open: openHttp2 },
  net: { open: openNet, pipeline: openNet },
  ws: { open: openWs, pipeline: openWs },
  socketio: { open: openSocketio, pipeline: openSocketio },
}

const options = JSON.parse(process.argv[2])
const { kind, port, mode, clients = 1, count = Infinity, loads = { [mode]: clients } } = options
const { path: only, pid: pattern = '^(\\d+)', again = false, think = 4, silence = 5000 } = options
const pidIn = new RegExp(pattern)
const start = Date.now()
const stats = { answered: 0, again: 0, stale: 0, by: {}, modes: {}, failed: [] }
const underWay = new Set()
let stopping = false

const failed = (error, mode, pid, since) => {
  const { how, message } = named(error)
  if (how === 'again' || how === 'stale') return stats[how]++
  stats.failed.push({ how, what: message, mode, pid, asked: since - start, at: Date.now() - start })
}

// Sends one request and counts its result.
const request = async (mode, { path, whole = () => true }, connection, n) => {
  const since = { at: Date.now(), own: now() }
  const heard = () => Math.max(since.own, connection.line.heard)
  underWay.add(since)
  try {
    const answer = await unlessSilent(connection.ask(only ?? path(n)), silence, heard, 'silence', connection.close)
    const pid = Number(pidIn.exec(answer.head)?.[1])
    if (!pid || !whole(answer)) throw new Failure('wrong', `${answer.length} bytes of answer: ${answer.head}`)
    connection.pid = pid
    stats.answered++
    stats.by[pid] = (stats.by[pid] ?? 0) + 1
    stats.modes[mode] = (stats.modes[mode] ?? 0) + 1
  } catch (error) {
    connection.over = true
    connection.close()
    failed(error, mode, connection.pid, since.at)
  } finally {
    underWay.delete(since)
  }
}

// `line.heard`: when the last byte came on the connection, in the client's own time.
const connect = async (mode, load) => {
  const since = { at: Date.now() }
  const line = { heard: now() }
  const heard = () => (line.heard = now())
  const repeated = (times) => (stats.again += times)
  const { open, pipeline } = PROTOCOLS[kind]
  underWay.add(since)
  try {
    const opened = (load.lanes ? pipeline : open)({ port, again, heard, repeated, ...load })
    const connection = await unlessSilent(opened, silence, () => line.heard, 'connecting', () => {})
    return Object.assign(connection, { line })
  } catch (error) {
    failed(error, mode, undefined, since.at)
  } finally {
    underWay.delete(since)
  }
}

const client = async (mode) => {
  const load = LOADS[mode]
  let n = 0
  const lane = async (connection) => {
    const { asks = Infinity } = load
    for (let asked = 0; asked < asks && n < count && !stopping && !connection.over && !connection.ended(); asked++) {
      await request(mode, load, connection, n++)
      await pause(count === Infinity ? (load.rest ?? think) : 0)
    }
  }
  while (n < count && !stopping) {
    const connection = await connect(mode, load)
    if (connection) {
      await Promise.all(Array.from({ length: load.lanes ?? 1 }, () => lane(connection)))
      connection.close()
    } else {
      n++
      await pause(think)
    }
  }
}

// `oldest`: the age of the oldest request in flight, in ms.
const tell = (then) => {
  const oldest = Math.max(0, ...[...underWay].map(({ at }) => Date.now() - at))
  process.stdout.write(`${JSON.stringify({ ...stats, oldest, late })}\n`, then)
}
const all = Object.entries(loads).flatMap(([mode, clients]) => Array.from({ length: clients }, () => client(mode)))
createInterface({ input: process.stdin })
  .on('line', () => tell())
  .on('close', () => (stopping = true))
await Promise.all(all)
tell(() => process.exit(0))
