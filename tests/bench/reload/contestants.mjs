// The two that are measured. Both read the same config file and know the same commands; what one has and the other has
// not stands here.
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { lives, run, until, withVariable } from '../machine.mjs'

// A home of its own for a program. `env`: what its daemon is to have besides.
const contestant = (name, variable, program, env) => (folder) => {
  const home = path.join(folder, 'home')
  const work = path.join(folder, 'work')
  let over = false
  const command = (words) => run(program, words, { ...env, [variable]: home }, { cwd: work })
  // What comes after the end would start another daemon.
  const ask = async (...words) => {
    if (over) throw new Error(`${name} ${words[0]}: it was ended`)
    return command(words)
  }
  const list = async () => {
    const { out } = await ask('jlist')
    const rows = JSON.parse(out.slice(out.indexOf('[')))
    return rows.map(({ pid, pm2_env: { status } }) => ({ pid, status }))
  }
  const end = async () => {
    over = true
    await command(['kill'])
    const left = withVariable(variable, home)
    left.forEach((pid) => process.kill(Number(pid), 'SIGKILL'))
    await until('all are gone', () => !left.some(lives))
    await pause(100) // PM2's command ends before its daemon does
    return left.length
  }
  fs.mkdirSync(work, { recursive: true })
  return { name, work, ask, list, end }
}

// Its memory is looked at each 5 s, as pmr does; by itself PM2 would each 30 s.
export const pm2 = (program) => contestant('PM2', 'PM2_HOME', program, { PM2_WORKER_INTERVAL: '5000' })
export const pmr = (program) => contestant('pmr', 'PMR_HOME', program, {})
