// One app, in one of its two kinds, under one contestant, through all events: a cell for each.
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { until } from '../machine.mjs'
import { WORKERS, hasHealth, start } from './app.mjs'
import { EVENTS, SICK } from './events.mjs'

// All requests that were under way at the end of an event belong to it.
const settled = async (app) => {
  const end = performance.now()
  return until('requests under way have ended', async () => {
    const tally = await app.tally()
    return tally.oldest < performance.now() - end ? tally : false
  }, 100)
}

// The good release, by all workers, whatever was left of it.
const recover = async (app, before) => {
  app.release('good')
  const after = await app.online()
  if (after.length === WORKERS && after.every((pid) => before.includes(pid))) return
  await app.contestant.ask('delete', 'app')
  await app.launch()
}

const cell = async (app, event) => {
  const [before, pids] = [await settled(app), await app.online()]
  const start = performance.now()
  const told = await EVENTS[event](app)
  const after = await settled(app)
  if (told?.code !== undefined) await recover(app, pids)
  return {
    event,
    took: Math.round(performance.now() - start),
    answered: after.answered - before.answered,
    again: after.again - before.again,
    failed: after.failed.slice(before.failed.length),
    ...told,
  }
}

const open = new Set()

// Ends all that was started, when a signal ends us.
export const endAll = () => Promise.all([...open].map((one) => one.end()))

export const row = async (contestant, name, graceful, events) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'pmr-reload-'))
  const one = contestant(folder)
  open.add(one)
  const cells = []
  let left
  try {
    const possible = events.filter((event) => event !== SICK || hasHealth(name))
    const app = await start(one, name, { graceful, checked: possible.includes(SICK) })
    for (const event of possible) cells.push(await cell(app, event))
    await app.stop()
  } finally {
    left = await one.end()
    open.delete(one)
    fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }
  return { contestant: one.name, app: name, graceful, cells, left }
}
