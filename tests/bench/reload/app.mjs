// An app under a contestant, with two workers: its config file, its release, and its load.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { freePort, lives, load, root, until } from '../machine.mjs'

export const WORKERS = 2
const LOADS = { keep: 4, new: 4, upload: 2, slow: 2, long: 4 }
const FEWER = { keep: 2, new: 2, upload: 1, slow: 1, long: 2 }

// In ms. With four apps at once this machine still has some idle time, so that a late answer is not due to the machine.
const THINK = 10

// The protocol of each app of tests/cluster/apps.
export const APPS = { http: 'http', express: 'http', fastify: 'http', koa: 'http', https: 'https', net: 'net', ws: 'ws', socketio: 'socketio' }
// An app that PM2 cannot cluster. It closes each connection with its answer, so there are no pipelined requests.
const OTHERS = { python: { kind: 'http', file: 'python.py', interpreter: '/usr/bin/python3', without: 'upload' } }

const known = (app) => OTHERS[app] ?? { kind: APPS[app], file: `${app}.cjs` }

const loadsOf = ({ without }, { brief }) => {
  const { [without]: _, ...loads } = brief ? FEWER : LOADS
  return loads
}

// True if the protocol can tell clients to reconnect.
const saysGoodbye = ({ kind }) => kind === 'http' || kind === 'https'

const certificate = (folder) => {
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(folder, name))
  const words = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost'
  execFileSync('openssl', [...words.split(' '), '-keyout', key, '-out', cert], { stdio: 'pipe' })
  return { TLS_KEY: key, TLS_CERT: cert }
}

// A health check is a plain HTTP request over a new connection, or a line that the app prints after it has checked
// itself.
const HTTP = { http: '/', interval: '1s', timeout: '2s', retries: 2 }
const SLOW_HTTP = { ...HTTP, timeout: '1m' }
const LINE = { log: 'ready to serve' }
const healthOf = (app, brief) => (['https', 'python'].includes(app) ? LINE : brief ? SLOW_HTTP : HTTP)

// Settings that only pmr has.
const settings = ({ name }, app, { checked, brief }) => {
  if (name !== 'pmr') return {}
  const drain = saysGoodbye(known(app)) ? (brief ? { drain_timeout: '60s' } : {}) : { drain_timeout: '2500ms' }
  const health = checked ? { health: healthOf(app, brief) } : {}
  return { ...drain, ...health }
}

const config = (contestant, app, { graceful, checked, brief }, port) => ({
  name: 'app',
  script: path.join(root, 'tests/cluster/apps', known(app).file),
  interpreter: known(app).interpreter,
  cwd: contestant.work,
  instances: WORKERS,
  exec_mode: 'cluster',
  listen_timeout: brief ? 100_000 : 3000,
  kill_timeout: brief ? 80_000 : 5000,
  max_memory_restart: '300M',
  env: { PORT: String(port), GRACEFUL: graceful ? 'yes' : 'no', ...(app === 'https' ? certificate(contestant.work) : {}) },
  ...settings(contestant, app, { checked, brief }),
})

// Starts the app and its load. `checked`: with a health check. `brief`: with fewer clients, and with more time for a
// busy machine.
export const start = async (contestant, app, ways) => {
  const port = await freePort()
  const { kind } = known(app)
  const loads = loadsOf(known(app), ways)
  const file = path.join(contestant.work, 'app.config.json')
  const release = (name) => fs.writeFileSync(path.join(contestant.work, 'release'), name)
  const seen = new Set()
  const online = async () => {
    const pids = (await contestant.list()).filter(({ status }) => status === 'online').map(({ pid }) => pid)
    pids.forEach((pid) => seen.add(pid))
    return pids
  }
  // Waits until all workers that served before and no longer do are gone.
  const left = async () => {
    const gone = async () => {
      const pids = await online()
      return [...seen].every((pid) => pids.includes(pid) || !lives(pid))
    }
    await until('replaced workers are gone', gone, contestant.glance)
    seen.clear()
  }
  // One list both counts the workers and names them: a killed worker is listed as online for a moment, and in the next
  // list its place may be empty.
  const are = (count) =>
    until(`${count} workers`, async () => {
      const pids = await online()
      return pids.length === count && pids
    })
  const launch = async () => {
    release('good')
    const { failed, out, complaint } = await contestant.ask('start', file)
    if (failed) throw new Error(`${contestant.name} does not start ${app}: ${out}${complaint}`)
    await until('an answer', async () => (await are(WORKERS)) && (await once('new')).answered === 1)
  }
  const once = (mode) => load({ kind, port, mode, count: 1 }).last()
  fs.writeFileSync(file, JSON.stringify({ apps: [config(contestant, app, ways, port)] }))
  await launch()
  const clients = load({ kind, port, loads, think: THINK, ...(ways.brief ? { silence: 20_000 } : {}) })
  contestant.underLoad(clients)
  const busy = ({ modes }) => Object.keys(loads).every((mode) => modes[mode] > 0)
  await until('load of all kinds', async () => busy(await clients.stats()), 100)
  return { ...clients, brief: ways.brief, contestant, release, online, left, are, launch, once }
}
