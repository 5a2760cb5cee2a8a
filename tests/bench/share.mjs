// Measures what sharing a port costs: each way that pmr has, next to plain SO_REUSEPORT, in one run on one machine.
//
//   cargo build --release --bins --examples
//   node tests/bench/share.mjs --rounds 5 --seconds 4
//
// Two workers of one server and 16 connections of `wrk`, which keeps them alive or opens a new one for each request.
// Each round runs all variants in another order. A ratio compares with SO_REUSEPORT in the same round, and the table
// shows the median of all rounds. The client runs on the same processors, so requests per second understate a
// difference. Processor time per request, of workers and daemon together, does not.
import { execFile, spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')
const release = path.join(root, 'target/release')
const runtimes = path.join(root, 'tests/cluster/runtimes/node_modules')
const newest = path.join(runtimes, `node24-${process.arch}/bin/node`)
const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    program: { type: 'string', default: path.join(release, 'pmr') },
    responder: { type: 'string', default: path.join(release, 'examples/responder') },
    node: { type: 'string', default: fs.existsSync(newest) ? newest : 'node' },
    only: { type: 'string', default: '' },
  },
})
const web = path.join(root, 'tests/bench/web.cjs')
const { responder, node } = options
const NOBODY = 65534

// How the workers of a server are started: by themselves, or by pmr.
const alone = (...words) => ({ words })
const pmr = (...words) => ({ words, pmr: true })
const asUser = (variant) => ({ ...variant, user: NOBODY })
const withoutChannel = ['env', '--', '-u', 'PMR_CHANNEL_FD', '-u', 'NODE_CHANNEL_FD']
const servers = {
  'a server in Rust (hyper)': {
    SO_REUSEPORT: { ...alone(responder, 'reuseport'), copies: 2 },
    'bind interception, as root': pmr(...withoutChannel, responder),
    'bind interception, as a user': asUser(pmr(...withoutChannel, responder)),
    "pmr's worker protocol": pmr(responder),
  },
  'a server in Node': {
    SO_REUSEPORT: { ...alone(node, web, 'reuseport'), copies: 2 },
    'bind interception, as root': pmr(...withoutChannel, node, web),
    "Node's protocol, pmr's": pmr(web, '--interpreter', node),
    "Node's protocol, its own": { ...alone(node, web, 'cluster'), copies: 1 },
  },
}

const run = (program, words, more = {}) =>
  new Promise((resolve, reject) => {
    const limit = { timeout: 60_000, maxBuffer: 1 << 26, ...more }
    execFile(program, words, limit, (error, out, complaint) => (error ? reject(new Error(`${error}${out}${complaint}`)) : resolve(out)))
  })

const freePort = () =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

const statOf = (pid) => {
  try {
    return fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
  } catch {
    return undefined
  }
}

// These processes and all their descendants.
const treeOf = (roots) => {
  const stats = fs.readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).map((pid) => [Number(pid), Number(statOf(pid)?.[1])])
  const tree = new Set(roots)
  for (let size = -1; size !== tree.size; ) {
    size = tree.size
    for (const [pid, parent] of stats) if (tree.has(parent)) tree.add(pid)
  }
  return [...tree]
}

// Processor time of these processes, in microseconds.
const usedBy = (pids) =>
  pids.reduce((sum, pid) => {
    const stat = statOf(pid)
    return stat ? sum + (Number(stat[11]) + Number(stat[12])) * 10_000 : sum
  }, 0)

const answers = (port) =>
  new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1', () => (socket.destroy(), resolve(true)))
    socket.on('error', () => resolve(false))
  })

const until = async (what, holds) => {
  const start = performance.now()
  while (!(await holds())) {
    if (performance.now() - start > 30_000) throw new Error(`not in 30 s: ${what}`)
    await pause(20)
  }
}

// Starts workers without pmr.
const startAlone = ({ words, copies }, port) => {
  const env = { ...process.env, PORT: String(port) }
  const children = Array.from({ length: copies }, () => spawn(words[0], words.slice(1), { env, stdio: 'inherit' }))
  return {
    roots: children.map(({ pid }) => pid),
    stop: () => Promise.all(children.map((child) => new Promise((resolve) => (child.on('exit', resolve), child.kill('SIGKILL'))))),
  }
}

const startUnderPmr = async ({ words, user }, port) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'pmr-bench-'))
  const program = path.join(folder, 'pmr')
  fs.copyFileSync(options.program, program)
  if (user) fs.chownSync(folder, user, user)
  const env = { ...process.env, PMR_HOME: path.join(folder, 'home'), PORT: String(port), HOME: folder }
  const ask = (...words) => run(program, words, { env, cwd: '/', ...(user ? { uid: user, gid: user } : {}) })
  const [first, ...rest] = words
  await ask('start', first, '-n', 'app', '-i', '2', ...rest)
  return {
    roots: [Number(fs.readFileSync(path.join(env.PMR_HOME, 'pmr.pid'), 'utf8'))],
    stop: async () => {
      await ask('kill')
      fs.rmSync(folder, { recursive: true })
    },
  }
}

// Requests per second and processor time for each.
const measure = async (port, kept, pids) => {
  const words = ['-t', '1', '-c', '16', '-d', `${options.seconds}s`, ...(kept ? [] : ['-H', 'Connection: close'])]
  const before = usedBy(pids)
  const out = await run('wrk', [...words, `http://127.0.0.1:${port}/`])
  const used = usedBy(pids) - before
  const [, count] = /(\d+) requests in/.exec(out)
  const [, failed] = /Socket errors: (.*)/.exec(out) ?? []
  const failures = failed && !/connect 0, read \d+, write 0, timeout 0/.test(failed) ? failed : undefined
  return { rate: Number(/Requests\/sec: +([\d.]+)/.exec(out)[1]), cost: used / Number(count), failures }
}

const one = async (variant) => {
  const port = await freePort()
  const app = variant.pmr ? await startUnderPmr(variant, port) : startAlone(variant, port)
  try {
    await until('an answer', () => answers(port))
    await pause(300)
    const pids = treeOf(app.roots)
    return { new: await measure(port, false, pids), kept: await measure(port, true, pids) }
  } finally {
    await app.stop()
  }
}

const shuffled = (list) => list.map((item) => [Math.random(), item]).sort(([a], [b]) => a - b).map(([, item]) => item)
const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]

const rounds = []
const wanted = Object.entries(servers).flatMap(([server, variants]) =>
  Object.entries(variants).map(([name, variant]) => ({ server, name, variant })),
)
for (let n = 0; n < Number(options.rounds); n++) {
  const round = {}
  for (const { server, name, variant } of shuffled(wanted)) {
    if (!`${server} ${name}`.includes(options.only) && name !== 'SO_REUSEPORT') continue
    if (variant.user && process.getuid() !== 0) continue
    const result = await one(variant)
    ;(round[server] ??= {})[name] = result
    for (const [kind, { failures }] of Object.entries(result)) if (failures) console.error(`${server}, ${name}, ${kind}: ${failures}`)
  }
  rounds.push(round)
  console.error(`round ${n + 1} of ${options.rounds}`)
}

console.log('| two workers of | connections go by | new connections/s | ratio | µs of CPU each | ratio | requests/s kept alive | ratio | µs of CPU each | ratio |')
console.log('|---|---|---|---|---|---|---|---|---|---|')
for (const { server, name } of wanted) {
  if (!rounds[0][server]?.[name]) continue
  const cells = ['new', 'kept'].flatMap((kind) =>
    ['rate', 'cost'].flatMap((what) => {
      const values = rounds.map((round) => round[server][name][kind][what])
      const ratios = rounds.map((round) => round[server][name][kind][what] / round[server].SO_REUSEPORT[kind][what])
      const value = median(values)
      return [what === 'rate' ? Math.round(value).toLocaleString('en') : value.toFixed(1), median(ratios).toFixed(2)]
    }),
  )
  console.log(`| ${server} | ${name} | ${cells.join(' | ')} |`)
}
