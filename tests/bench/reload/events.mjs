// Events of an app under load. Each returns the outcome of its command and the workers that serve afterwards.
import { setTimeout as pause } from 'node:timers/promises'
import { until } from '../machine.mjs'
import { WORKERS } from './app.mjs'

const done = async ({ contestant }, ...words) => {
  const { failed, out, complaint } = await contestant.ask(...words)
  if (failed) throw new Error(`${contestant.name} ${words.join(' ')}: ${out}${complaint}`)
}

const reload = (times) => async (app) => {
  for (let n = 0; n < times; n++) {
    const before = await app.are(WORKERS)
    await done(app, 'reload', 'app')
    await until('all replaced', async () => (await app.are(WORKERS)).every((pid) => !before.includes(pid)))
  }
}

const scale = async (app) => {
  await done(app, 'scale', 'app', '4')
  const pids = await app.are(4)
  await until('all four answer', async () => {
    const { by } = await app.stats()
    return pids.every((pid) => by[pid])
  }, 100)
  await done(app, 'scale', 'app', '2')
  await app.are(WORKERS)
}

const memory = async (app) => {
  const { by, failed } = await app.once('grow')
  const [victim] = Object.keys(by).map(Number)
  if (!victim) throw new Error(`no worker has grown: ${JSON.stringify(failed)}`)
  await until('it is replaced', async () => !(await app.are(WORKERS)).includes(victim))
}

const kill = async (app) => {
  const [victim] = await app.are(WORKERS)
  process.kill(victim, 'SIGKILL')
  await until('it is replaced', async () => !(await app.are(WORKERS)).includes(victim))
  return { victim }
}

// The least number of workers that are online during the event.
const fewest = async (app, over) => {
  let least = Infinity
  while (!over()) {
    least = Math.min(least, (await app.online()).length)
    await pause(app.contestant.glance)
  }
  return least
}

// Checks after this many ms, if the command has ended by then: longer than the release takes to show its behaviour.
// `words`: further options of a contestant. `soon`: the same options where good workers have time to start.
const broken =
  (release, ms, words = {}, soon = []) =>
  async (app) => {
    const before = await app.are(WORKERS)
    app.release(release)
    let over = false
    const judged = async () => {
      const [{ code, out, complaint }] = await Promise.all([
        app.contestant.ask('reload', 'app', ...(words[app.contestant.name] ?? []), ...(app.brief ? soon : [])),
        pause(app.brief ? 0 : ms),
      ])
      return { code, said: out + complaint }
    }
    const [told, least] = await Promise.all([judged().finally(() => (over = true)), fewest(app, () => over)])
    const after = await app.online()
    return { ...told, least, kept: before.filter((pid) => after.includes(pid)).length }
  }

const SOON = ['--listen-timeout', '15s']

export const SICK = 'fails its health check'

// The events of the table, in their order.
export const EVENTS = {
  'reload ×5': reload(5),
  'scale 2→4→2': scale,
  'memory limit': memory,
  'kill -9': kill,
  'crashes at start': broken('crash', 4000),
  'never listens': broken('mute', 5000, {}, SOON),
  [SICK]: broken('sick', 5000, {}, SOON),
  'dies 5 s later': broken('dying', 9000, { pmr: ['--canary', '1', '--canary-for', '8s'] }),
}

export const event = (name) => (name === 'reload' ? reload(1) : EVENTS[name])
