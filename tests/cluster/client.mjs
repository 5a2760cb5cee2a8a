// Load on a server, and an honest count of what became of each request.
//
//   node client.mjs '{"kind":"http","mode":"keep","port":3000,"clients":8}'
//   node client.mjs '{"kind":"http","port":3000,"loads":{"keep":4,"new":4,"upload":2,"slow":2,"long":4}}'
//
// `kind` is what the server speaks. A load is so many clients that ask in one way (`LOADS` below); `mode` and `clients`
// name a single one. `think`: ms of rest between two requests. `count`: one client, so many requests, then the end. A line
// on standard input is answered by the tally so far, as a line of JSON; its end stops the load and is answered by the last
// tally.
//
// A request has hung when nothing came on its connection for `silence` ms, by default five seconds, in which this client
// was awake. How much it was not is told as `late` (client/clock.mjs).
//
// Over HTTP/1: `path` asks for this only, `pid` is the pattern of the pid in an answer, and with `again` a client does
// what browsers and RFC 9112 (9.3.1) do: where a connection that has served before ends without a byte of an answer, it
// asks once more on a new one. Those are counted as `stale`, and as failed only if the second try fails.
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

// `asks`: a connection for so many requests, as clients close one that have asked all. `lanes`: so many requests under
// way on one connection. `pace`: ms of rest behind each 256 KB of an answer. `rest`: as `think`, where that is not for it.
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
const tally = { answered: 0, again: 0, stale: 0, by: {}, modes: {}, failed: [] }
const underWay = new Set()
let stopping = false

const failed = (error, mode, pid, since) => {
  const { how, message } = named(error)
  if (how === 'again' || how === 'stale') return tally[how]++
  tally.failed.push({ how, what: message, mode, pid, asked: since - start, at: Date.now() - start })
}

// One request, from its question to what became of it.
const request = async (mode, { path, whole = () => true }, connection, n) => {
  const since = { at: Date.now(), own: now() }
  const heard = () => Math.max(since.own, connection.line.heard)
  underWay.add(since)
  try {
    const answer = await unlessSilent(connection.ask(only ?? path(n)), silence, heard, 'silence', connection.close)
    const pid = Number(pidIn.exec(answer.head)?.[1])
    if (!pid || !whole(answer)) throw new Failure('wrong', `${answer.length} bytes of answer: ${answer.head}`)
    connection.pid = pid
    tally.answered++
    tally.by[pid] = (tally.by[pid] ?? 0) + 1
    tally.modes[mode] = (tally.modes[mode] ?? 0) + 1
  } catch (error) {
    connection.over = true
    connection.close()
    failed(error, mode, connection.pid, since.at)
  } finally {
    underWay.delete(since)
  }
}

// `line`: when something was heard on it.
const connect = async (mode, load) => {
  const since = { at: Date.now() }
  const line = { heard: now() }
  const heard = () => (line.heard = now())
  const repeated = (times) => (tally.again += times)
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

// `oldest`: for how many ms the oldest request under way has been asked.
const tell = (then) => {
  const oldest = Math.max(0, ...[...underWay].map(({ at }) => Date.now() - at))
  process.stdout.write(`${JSON.stringify({ ...tally, oldest, late })}\n`, then)
}
const all = Object.entries(loads).flatMap(([mode, clients]) => Array.from({ length: clients }, () => client(mode)))
createInterface({ input: process.stdin })
  .on('line', () => tell())
  .on('close', () => (stopping = true))
await Promise.all(all)
tell(() => process.exit(0))
