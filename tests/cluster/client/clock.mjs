// The client's own time, which stops while its event loop is blocked: a client that was descheduled must not report
// that the server was silent. The lost time is reported with the stats.

const TICK = 50
const BOUND = 2 * TICK

const watches = new Set()
let own = 0
let last = performance.now()

// In ms: the largest delay of the event loop, and the total time that did not count because of delays.
export const late = { worst: 0, lost: 0 }

// The own time, in ms since the start.
export const now = () => own

setInterval(() => {
  const at = performance.now()
  const passed = at - last
  last = at
  own += Math.min(passed, BOUND)
  late.worst = Math.max(late.worst, Math.round(passed - TICK))
  late.lost += Math.round(Math.max(0, passed - BOUND))
  for (const watch of watches) watch()
}, TICK).unref()

// Calls `watch` at each tick, until the returned function is called.
export const watching = (watch) => {
  watches.add(watch)
  return () => watches.delete(watch)
}
