// Measures what a reload costs, a scale, a worker over its memory limit, a killed worker, and a bad release: failed
// requests under PM2 and under pmr, side by side, counted by the same client on the same apps at the same time.
//
//   cargo build --release
//   node tests/bench/reload.mjs                          a table in Markdown
//   node tests/bench/reload.mjs --write table.md         the same, into a file
//   node tests/bench/reload.mjs --jobs 2                 two apps at a time
//   node tests/bench/reload.mjs --only pmr --apps http,ws --events 'reload ×5' --json cells.json
//   node tests/bench/reload.mjs --only pmr --brief --rows 'python abrupt,ws graceful' --events reload
//
// The file grows with each row, so a run that is interrupted leaves the rows so far. A row that takes more than eight
// minutes is ended and reported, with exit code 1.
//
// PM2 is installed from the npm registry into a temporary folder, unless `--pm2` says where it is. Each app has two
// workers and clients of five kinds (tests/cluster/client.mjs), and runs with a handler of SIGINT and without.
// `--brief` uses fewer clients and does not wait for late effects of a bad release. The event `reload` is a single
// reload.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { root } from './machine.mjs'
import { APPS } from './reload/app.mjs'
import { pm2, pmr } from './reload/contestants.mjs'
import { EVENTS } from './reload/events.mjs'
import { endAll, row } from './reload/row.mjs'
import { table, total } from './reload/table.mjs'

const list = { type: 'string' }
const { values: options } = parseArgs({
  options: {
    program: { type: 'string', default: path.join(root, 'target/release/pmr') },
    pm2: { type: 'string' },
    only: { type: 'string' },
    apps: { ...list, default: Object.keys(APPS).join(',') },
    kinds: { ...list, default: 'abrupt,graceful' },
    rows: list,
    events: { ...list, default: Object.keys(EVENTS).join(',') },
    brief: { type: 'boolean', default: false },
    jobs: { type: 'string', default: '1' },
    write: { type: 'string' },
    json: { type: 'string' },
  },
})
const { brief } = options
const [apps, kinds, events] = [options.apps, options.kinds, options.events].map((words) => words.split(','))

const install = () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'pm2-reload-'))
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
  execFileSync('npm', ['install', '--prefix', folder, '--no-audit', '--no-fund', 'pm2@7'], { stdio: 'pipe' })
  return path.join(folder, 'node_modules/.bin/pm2')
}

const contestants = []
if (options.only !== 'pmr') contestants.push(pm2(options.pm2 ?? install()))
if (options.only !== 'pm2') contestants.push(pmr(path.resolve(options.program)))

const stop = async () => {
  work.length = 0
  await endAll()
  process.exit(1)
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, stop)

const rows = []
const all = options.rows?.split(',').map((words) => words.split(' ')) ?? apps.flatMap((app) => kinds.map((kind) => [app, kind]))
const work = all.map(([app, kind], at) => ({ app, kind, at }))
const worker = async () => {
  for (let next; (next = work.shift()); ) {
    const { app, kind, at } = next
    const start = performance.now()
    rows[at] = await Promise.all(contestants.map((one) => row(one, app, { graceful: kind === 'graceful', brief, events })))
    console.error(`${app}, ${kind}: ${((performance.now() - start) / 1000).toFixed(0)} s`)
    write()
  }
}

// The rows so far.
const write = () => {
  const done = rows.flat()
  const totals = [...new Set(done.map(({ contestant }) => contestant))].map((name) => total(done, name))
  const text = [table(done, events), '', ...totals].join('\n')
  if (options.write) fs.writeFileSync(options.write, `${text}\n`)
  if (options.json) fs.writeFileSync(options.json, JSON.stringify(done, null, 1))
  return text
}

await Promise.all(Array.from({ length: Number(options.jobs) }, worker))
console.log(write())
process.exit(rows.flat().some(({ error }) => error) ? 1 : 0)
