// What happens to an app under load. Each event says what its command came to and who serves afterwards.
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
    const { by } = await app.tally()
    return pids.every((pid) => by[pid])
  }, 100)
  await done(app, 'scale', 'app', '2')
  await app.are(WORKERS)
}

const memory = async (app) => {
  const { by, failed } = await app.once('grow')
  const [victim] = Object.keys(by).map(Number)
  if (!victim) throw new Error(`nobody has grown: ${JSON.stringify(failed)}`)
  await until('it is replaced', async () => !(await app.are(WORKERS)).includes(victim))
}

const kill = async (app) => {
  const [victim] = await app.are(WORKERS)
  process.kill(victim, 'SIGKILL')
  await until('it is replaced', async () => !(await app.are(WORKERS)).includes(victim))
  return { victim }
}

// How many workers are online at the least, until all is over.
const fewest = async (app, over) => {
  let least = Infinity
  while (!over()) {
    least = Math.min(least, (await app.online()).length)
    await pause(app.contestant.glance)
  }
  return least
}

// Looked at after so many ms, if the command is over then: longer than it takes the release to show what it is. `words`:
// what a contestant can be told besides. `soon`: the same where there is time for all that is good to come up.
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

// Those of the table, in the order they happen.
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
