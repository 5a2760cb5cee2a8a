// The client's own time, which stands still while its event loop does: a client that was not let run must not say of a
// server that it was silent. What was lost that way is told with the tally.

const TICK = 50
const BOUND = 2 * TICK

const watches = new Set()
let own = 0
let last = performance.now()

// In ms: by how much the event loop was late at worst, and how much of the time did not count for that.
export const late = { worst: 0, lost: 0 }

// In ms of own time.
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

// Calls this again and again, until what it returns is called.
export const watching = (watch) => {
  watches.add(watch)
  return () => watches.delete(watch)
}
