// One app, graceful or not, under one contestant, through all events: a cell for each event.
import { until } from '../machine.mjs'
import { WORKERS, start } from './app.mjs'
import { SICK, event as happening } from './events.mjs'

// A row takes two or three minutes. A row that reaches this limit is ended and reported.
const LIMIT = 480_000

// All requests in flight at the end of an event belong to that event, and so do all requests of its old workers.
// Clients that were descheduled may not know yet that a worker is gone, and send requests to it. So the event ends when
// all clients have answered us after it. The age of a request is valid at the time when the client reports it, which is
// after our question and may be long before we read the answer.
const settled = async (app) => {
  await app.left()
  await app.stats()
  const end = performance.now()
  return until('requests under way have ended', async () => {
    const asked = performance.now()
    const stats = await app.stats()
    return stats.oldest + 1 < asked - end && stats
  }, 100)
}

// Restores the good release on all workers, whatever is left of it. False if nothing had to be done.
const recover = async (app, before) => {
  app.release('good')
  const after = await app.online()
  if (after.length === WORKERS && after.every((pid) => before.includes(pid))) return false
  await app.contestant.ask('delete', 'app')
  await app.launch()
  return true
}

// The cell, and the stats after it, which is the stats before the next cell.
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

// Ends all processes that were started, when a signal ends this script.
export const endAll = () => Promise.all([...open].map((one) => one.end()))

// Runs the events one after the other, and adds the result of each to `cells` at once. For PM2, which has no health
// checks, a release that fails its check is like any other.
const live = async (one, name, { graceful, brief, events }, cells) => {
  const app = await start(one, name, { graceful, brief, checked: one.checksHealth && events.includes(SICK) })
  let before = await app.stats()
  for (const event of events) {
    const { cell: done, after } = await cell(app, event, before)
    cells.push(done)
    before = after
  }
  return (await app.stop()).late.worst
}

// `late`: how long the event loop of the client was blocked, in ms: the maximum here, and in a cell the time that did
// not count (tests/cluster/client/clock.mjs). `error`: why the row was not completed.
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
