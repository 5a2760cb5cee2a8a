// The two process managers that are measured. Both read the same config file and know the same commands. Their
// differences are here.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { kill, lives, run, until, withVariable } from '../machine.mjs'

// A home of its own for a process manager, in a folder that is removed with it. `env`: further variables of its daemon.
// `checksHealth`: it has health checks. `glance`: ms between two lists, because each takes its time.
const contestant = (name, variable, program, { env, checksHealth, glance }) => () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'pmr-reload-'))
  const home = path.join(folder, 'home')
  const work = path.join(folder, 'work')
  const clients = []
  let [over, ended] = [false]
  const command = (words) => run(program, words, { ...env, [variable]: home }, { cwd: work })
  // A command after the end would start another daemon.
  const ask = async (...words) => {
    if (over) throw new Error(`${name} ${words[0]}: it was ended`)
    return command(words)
  }
  const list = async () => {
    const { out } = await ask('jlist')
    const rows = JSON.parse(out.slice(out.indexOf('[')))
    return rows.map(({ pid, pm2_env: { status } }) => ({ pid, status }))
  }
  // Ends the daemon, all its processes and all clients. Returns how many processes outlived the daemon.
  const end = () => (ended ??= endNow())
  const endNow = async () => {
    over = true
    clients.forEach((client) => client.kill())
    await command(['kill'])
    const left = withVariable(variable, home)
    left.forEach(kill)
    await until('all are gone', () => !left.some(lives))
    await pause(100) // PM2's command ends before its daemon does
    fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
    return left.length
  }
  const underLoad = (client) => (over ? client.kill() : clients.push(client))
  fs.mkdirSync(work, { recursive: true })
  return { name, checksHealth, glance, work, ask, list, end, underLoad }
}

// PM2 samples memory every 5 s here, as pmr does. Its default is 30 s.
export const pm2 = (program) => contestant('PM2', 'PM2_HOME', program, { env: { PM2_WORKER_INTERVAL: '5000' }, checksHealth: false, glance: 1000 })
export const pmr = (program) => contestant('pmr', 'PMR_HOME', program, { env: {}, checksHealth: true, glance: 100 })
