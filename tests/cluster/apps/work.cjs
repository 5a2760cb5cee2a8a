// What every app of the proof does, whatever its framework, and how its release may be broken.
//
// The file `release` in the working directory names the release: `good`; `crash` ends before it listens; `mute` never
// listens; `sick` listens and answers 503 to everything; `dying` is good for five seconds and then ends.
const fs = require('node:fs')
const { createRequire } = require('node:module')
const path = require('node:path')
const { Readable } = require('node:stream')
const { setTimeout: pause } = require('node:timers/promises')

const MB = 1 << 20
const release = fs.readFileSync('release', 'utf8').trim()
const graceful = process.env.GRACEFUL !== 'no'
const pid = `${process.pid}\n`
const kept = []

// The folder in which the frameworks are installed.
exports.require = createRequire(path.join(__dirname, '../../../examples/node/package.json'))
exports.port = process.env.PORT
exports.sick = release === 'sick'
exports.tls = () => ({ key: fs.readFileSync(process.env.TLS_KEY), cert: fs.readFileSync(process.env.TLS_CERT) })

exports.quick = () => pid
exports.work = () => pause(30, pid)
exports.large = () => (exports.large.made ??= Buffer.concat([Buffer.from(pid), Buffer.alloc(16 * MB, 'x')]))
// An answer that takes two seconds.
exports.long = () =>
  Readable.from(
    (async function* () {
      yield pid
      for (let n = 0; n < 10; n++) yield await pause(200, '.')
    })(),
  )
exports.upload = async (stream) => {
  let size = 0
  for await (const bytes of stream) size += bytes.length
  return `${process.pid} ${size}\n`
}
// Takes more memory than the limit allows.
exports.grow = () => {
  kept.push(Buffer.alloc(400 * MB, 'x'))
  return pid
}

// Prints that the app serves, unless this release is broken.
exports.serves = () => {
  if (!exports.sick) console.log('ready to serve')
}

// Listens, if this release does; `leave` is what a graceful app does on SIGINT.
exports.run = (listen, leave) => {
  console.log(`boot of release ${release}`)
  if (release === 'crash') {
    console.error('this release is broken: no such table: users')
    process.exit(7)
  }
  if (graceful) process.on('SIGINT', leave)
  if (release === 'mute') return setInterval(() => {}, 1000)
  if (release === 'dying') setTimeout(() => exports.die(), 5000)
  listen()
}
exports.die = () => {
  console.error('this release dies: out of file descriptors')
  process.exit(9)
}
