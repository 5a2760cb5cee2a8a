// One app, in one of its two kinds, under one contestant, through all events: a cell for each.
import { until } from '../machine.mjs'
import { WORKERS, start } from './app.mjs'
import { SICK, event as happening } from './events.mjs'

// A row takes two or three minutes. One that takes so long is ended and said not to have come to its end.
const LIMIT = 480_000

// All requests that were under way at the end of an event belong to it, and all that its old workers have. Clients that are
// not let run have not heard yet that a worker is gone, and ask on where nobody is: so the end is when they have answered us
// after it. How old a request is was true when they told, which is after we asked, and may be long before we hear it.
const settled = async (app) => {
  await app.left()
  await app.tally()
  const end = performance.now()
  return until('requests under way have ended', async () => {
    const asked = performance.now()
    const tally = await app.tally()
    return tally.oldest + 1 < asked - end && tally
  }, 100)
}

// The good release, by all workers, whatever was left of it. False if nothing had to be done for it.
const recover = async (app, before) => {
  app.release('good')
  const after = await app.online()
  if (after.length === WORKERS && after.every((pid) => before.includes(pid))) return false
  await app.contestant.ask('delete', 'app')
  await app.launch()
  return true
}

// The cell, and the tally after it, which is that before the next.
const cell = async (app, event, before) => {
  const workers = await app.are(WORKERS)
  const start = performance.now()
  const told = await happening(event)(app)
  const after = await settled(app)
  const disturbed = told?.code !== undefined && (await recover(app, workers))
  const cell = {
    event,
    took: Math.round(performance.now() - start),
    answered: after.answered - before.answered,
    again: after.again - before.again,
    failed: after.failed.slice(before.failed.length),
    late: after.late.lost - before.late.lost,
    workers,
    ...told,
  }
  return { cell, after: disturbed ? await settled(app) : after }
}

const open = new Set()

// Ends all that was started, when a signal ends us.
export const endAll = () => Promise.all([...open].map((one) => one.end()))

// Through the events, one after the other; what comes out of each goes to `cells` at once. A release that fails a check
// is for PM2, which knows none, one like any other.
const live = async (one, name, { graceful, brief, events }, cells) => {
  const app = await start(one, name, { graceful, brief, checked: one.checksHealth && events.includes(SICK) })
  let before = await app.tally()
  for (const event of events) {
    const { cell: done, after } = await cell(app, event, before)
    cells.push(done)
    before = after
  }
  return (await app.stop()).late.worst
}

// `late`: how long its client's event loop stood still, in ms: at worst here, and in a cell how much did not count
// (tests/cluster/client/clock.mjs). `error`: why it did not come to its end.
export const row = async (contestant, name, ways) => {
  const one = contestant()
  open.add(one)
  const row = { contestant: one.name, app: name, graceful: ways.graceful, cells: [] }
  const limit = setTimeout(() => {
    row.error = `not at its end after ${LIMIT / 1000} s`
    one.end().catch(() => {})
  }, LIMIT)
  const failed = (error) => void (row.error ??= error.message)
  row.late = await live(one, name, ways, row.cells).catch(failed)
  clearTimeout(limit)
  row.left = await one.end().catch(failed)
  open.delete(one)
  return row
}
