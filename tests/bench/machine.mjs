// Helpers of the measurements: commands, ports, processes, waiting, and load (tests/cluster/client.mjs).
import { execFile, spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..')

export const run = (program, words, env, more) =>
  new Promise((resolve) => {
    const limit = { env: { ...process.env, ...env }, timeout: 120_000, maxBuffer: 1 << 26, ...more }
    execFile(program, words, limit, (error, out, complaint) =>
      resolve({ failed: error !== null, code: error ? error.code : 0, out, complaint }),
    )
  })

const listens = (where) =>
  new Promise((resolve) => {
    const server = net.createServer()
    server.on('error', () => resolve()).listen(where, () => resolve(server))
  })

// Ports as in tests/ports/mod.rs: below the range that the kernel assigns to clients, each marked as taken by a name
// that only one process can bind.
let next = process.pid * 211
export const freePort = async () => {
  for (;;) {
    const port = 10_000 + (next++ % 22_000)
    const mark = await listens({ path: `\0pmr-test-port-${port}` })
    if (!mark) continue
    mark.unref()
    const server = await listens({ port })
    if (!server) continue
    await new Promise((resolve) => server.close(resolve))
    return port
  }
}

// Starts clients, as the head of client.mjs describes. `stop` returns the last stats; a load with a `count` ends by
// itself. `kill` ends a load whose stats is not needed.
export const load = (what) => {
  const script = path.join(root, 'tests/cluster/client.mjs')
  const child = spawn('node', ['--no-warnings', script, JSON.stringify(what)], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async () => JSON.parse((await lines.next()).value)
  return {
    stats: () => (child.stdin.write('\n'), next()),
    stop: () => (child.stdin.end(), next()),
    last: next,
    kill: () => child.kill('SIGKILL'),
  }
}

export const lives = (pid) => {
  try {
    return fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1][0] !== 'Z'
  } catch {
    return false
  }
}

// The process may have ended by itself meanwhile.
export const kill = (pid) => {
  try {
    process.kill(Number(pid), 'SIGKILL')
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}

const processes = () => fs.readdirSync('/proc').filter((pid) => /^\d+$/.test(pid))

export const childrenOf = (parent) =>
  processes().filter((pid) => {
    try {
      return Number(fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')[1]) === parent
    } catch {
      return false
    }
  })

// Processes with this variable in their environment.
export const withVariable = (name, value) =>
  processes().filter((pid) => {
    try {
      return fs.readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(`${name}=${value}`)
    } catch {
      return false
    }
  })

export const commandLine = (pid) => fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()

// Polls every `glance` ms.
export const until = async (what, holds, glance = 5) => {
  const start = performance.now()
  for (;;) {
    const found = await holds()
    if (found) return found
    if (performance.now() - start > 120_000) throw new Error(`not in 120 s: ${what}`)
    await pause(glance)
  }
}
