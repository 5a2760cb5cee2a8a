// A protocol of its own on plain TCP: each line is answered by one, and `bye` means: ask no more here.
const net = require('node:net')
const readline = require('node:readline')
const { setTimeout: pause } = require('node:timers/promises')
const work = require('./work.cjs')

const answers = {
  '/': work.quick,
  '/work': work.work,
  '/large': () => (answers.large ??= Buffer.from(work.large().toString('latin1').replace('\n', ' ') + '\n')),
  '/long': () => pause(2000, work.quick()),
  '/grow': work.grow,
}

const open = new Set()
const server = net.createServer((socket) => {
  if (work.sick) return socket.destroy()
  open.add(socket)
  socket.on('close', () => open.delete(socket))
  const lines = readline.createInterface({ input: socket })
  lines.on('line', async (line) => {
    const size = line.length - '/upload '.length
    socket.write(size > 0 ? `${process.pid} ${size}\n` : await answers[line]())
  })
  lines.on('error', () => {}) // the client has gone
})

// Nobody but the protocol itself can tell clients to ask no more here. They are served until they hang up.
work.run(
  () => server.listen(work.port),
  () => {
    server.close(() => process.exit(0))
    open.forEach((socket) => socket.write('bye\n'))
  },
)
