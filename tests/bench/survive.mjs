// Measures the cost of a dead daemon: kills it repeatedly under load, updates it to another program, and counts
// failures.
//
//   cargo build --release
//   node tests/bench/survive.mjs --times 100
//   node tests/bench/survive.mjs --pm2 /somewhere/node_modules/.bin/pm2    (the same kill for PM2, once)
//
// A Node cluster of two workers answers clients that keep their connections and clients that open one for each request
// (tests/cluster/client.mjs); a shell script numbers its lines. Each kind of death is a row of the table.
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { childrenOf, commandLine, freePort, lives, load, root, run, until } from './machine.mjs'

const { values: options } = parseArgs({
  options: {
    times: { type: 'string', default: '100' },
    program: { type: 'string', default: path.join(root, 'target/release/pmr') },
    pm2: { type: 'string' },
    clients: { type: 'string', default: '8' },
    only: { type: 'string' },
  },
})
const times = Number(options.times)
const web = path.join(root, 'examples/node/http.js')
const ticker = path.join(root, 'tests/e2e/apps/count.sh')

// Clients of one mode.
const clientsOf = (mode, port) => load({ kind: 'http', mode, port, clients: Number(options.clients) })

// Lost and duplicated lines of each process that wrote to the log.
const audit = (text) => {
  const reached = new Map()
  let [lost, doubled] = [0, 0]
  for (const line of text.slice(0, text.lastIndexOf('\n')).split('\n')) {
    const [pid, number] = line.split(' ').map(Number)
    const last = reached.get(pid) ?? 0
    if (number <= last) doubled++
    else lost += number - last - 1
    reached.set(pid, Math.max(last, number))
  }
  return { lines: [...reached.values()].reduce((sum, number) => sum + number, 0), lost, doubled }
}

const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))]
const spread = (numbers) => {
  if (numbers.length === 0) return '-'
  const sorted = [...numbers].sort((a, b) => a - b)
  return [quantile(sorted, 0.5), quantile(sorted, 0.99), sorted.at(-1)].map((ms) => ms.toFixed(1)).join(' / ')
}

const failures = (allStats) => {
  const failed = allStats.flatMap((stats) => stats.failed)
  const kinds = [...new Set(failed.map(({ how }) => how))]
  const names = kinds.map((kind) => `${failed.filter(({ how }) => how === kind).length} ${kind}`).join(', ')
  const answered = allStats.reduce((sum, stats) => sum + stats.answered, 0)
  return `${failed.length} of ${answered + failed.length}${names ? ` (${names})` : ''}`
}

const rows = []
const report = (row) => {
  rows.push(row)
  console.log(row)
}

// One kind of death, repeated `count` times under load.
const measure = async (what, home, count, die) => {
  const before = await home.apps()
  const loads = ['keep', 'new'].map((mode) => clientsOf(mode, home.port))
  await until('load', async () => (await Promise.all(loads.map((one) => one.stats()))).every(({ answered }) => answered > 50))
  const [control, away] = [[], []]
  for (let n = 0; n < count; n++) {
    const times = await die()
    control.push(times.control)
    if (times.away !== undefined) away.push(times.away)
    await pause(300 + Math.random() * 300)
  }
  const allStats = await Promise.all(loads.map((one) => one.stop()))
  const after = await home.apps()
  const log = audit(fs.readFileSync(home.log, 'utf8'))
  const same = (app) => after.some(({ id, pid, restarts }) => id === app.id && pid === app.pid && restarts === app.restarts)
  report({
    what,
    times: count,
    'failed requests': failures(allStats),
    'restarted or lost apps': `${before.filter((app) => !same(app)).length} of ${before.length}`,
    'log lines lost': `${log.lost} of ${log.lines}`,
    doubled: log.doubled,
    'ms to control (median / p99 / max)': spread(control),
    'ms away': spread(away),
  })
}

const readList = ({ out }) => {
  const list = JSON.parse(out.slice(out.indexOf('[')))
  return list.map(({ pm_id: id, pid, pm2_env: env }) => ({ id, pid, restarts: env.restart_time }))
}

const pmr = async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'pmr-bench-'))
  const port = await freePort()
  const env = { PMR_HOME: folder, PORT: String(port) }
  const ask = (...words) => run(options.program, words, env)
  const home = { port, log: path.join(folder, 'logs/ticker-out.log'), apps: async () => readList(await ask('jlist')) }
  await ask('start', ticker, '-n', 'ticker')
  await ask('start', web, '-n', 'web', '-i', '2')
  const keeper = () => Number(fs.readFileSync(path.join(folder, 'pmr.pid'), 'utf8'))
  const god = () => {
    const own = commandLine(keeper())
    return Number(childrenOf(keeper()).find((pid) => lives(pid) && commandLine(pid) === own))
  }
  const answers = async () => until('an answer', async () => !(await ask('ping')).failed)
  // The next daemon reports to early clients how long there was no daemon.
  const gap = () =>
    new Promise((resolve) => {
      const events = net.connect(path.join(folder, 'pub.sock'))
      createInterface({ input: events }).once('line', (line) => (events.destroy(), resolve(JSON.parse(line).gap_ms)))
      events.on('error', () => resolve(undefined))
    })
  const kill = async () => {
    const pid = await until('a God', god)
    const start = performance.now()
    process.kill(pid, 'SIGKILL')
    await answers()
    return { control: performance.now() - start, away: await gap() }
  }
  const update = async () => {
    const start = performance.now()
    const { failed, out, complaint } = await ask('update')
    if (failed) throw new Error(complaint)
    return { control: performance.now() - start, away: Number(/away for (\d+) ms/.exec(out + complaint)?.[1]) }
  }
  try {
    await measureAll()
  } finally {
    await ask('kill')
    fs.rmSync(folder, { recursive: true })
  }

  async function measureAll() {
    const pings = []
    for (let n = 0; n < 20; n++) {
      const start = performance.now()
      await answers()
      pings.push(performance.now() - start)
    }
    console.log(`a ping of a daemon that lives takes ${spread(pings)} ms`)
    if (options.only !== 'update') await measure('pmr: kill -9 of God', home, times, kill)
    if (options.only !== 'kill') await measure('pmr: update (3 s of trial included)', home, times, update)
  }
}

const pm2 = async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'pm2-bench-'))
  const port = await freePort()
  const env = { PM2_HOME: folder, PORT: String(port) }
  const ask = (...words) => run(options.pm2, words, env)
  const home = { port, log: path.join(folder, 'logs/ticker-out.log'), apps: async () => readList(await ask('jlist')) }
  await ask('start', ticker, '-n', 'ticker')
  await ask('start', web, '-n', 'web', '-i', '2')
  const apps = await home.apps()
  const kill = async () => {
    const start = performance.now()
    process.kill(Number(fs.readFileSync(path.join(folder, 'pm2.pid'), 'utf8')), 'SIGKILL')
    await until('an answer', async () => !(await ask('jlist')).failed)
    const control = performance.now() - start
    await pause(3000)
    return { control }
  }
  try {
    await measure('PM2: kill -9 of its daemon', home, 1, kill)
    for (const { pid } of apps) console.log(`PM2: ${pid} ${lives(pid) ? 'lives on' : 'is dead'}`)
  } finally {
    await ask('kill')
    for (const { pid } of apps.filter(({ pid }) => lives(pid))) process.kill(pid, 'SIGKILL')
    fs.rmSync(folder, { recursive: true })
  }
}

await (options.pm2 ? pm2() : pmr())
console.table(rows)
process.exit(0)
