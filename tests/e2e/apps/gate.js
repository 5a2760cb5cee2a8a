// A web server. The file `release` in its directory, or RELEASE, says how it behaves: good, crash, mute, slow, short,
// noisy, early. `slow` listens when the file `go` exists; `short` listens and exits when the file exists.
const fs = require('node:fs')
const http = require('node:http')

const whenTold = (act) => (fs.existsSync('go') ? act() : setTimeout(whenTold, 20, act))
const release = process.env.RELEASE ?? fs.readFileSync('release', 'utf8').trim()
console.log(`boot ${release}`)
if (release === 'crash') {
  console.error('this release is broken')
  process.exit(7)
}
let ready = release !== 'early'
const server = http.createServer((request, response) => {
  response.statusCode = ready ? 200 : 503
  response.end(`${process.pid}\n`)
})
const listen = () => server.listen(process.env.PORT ?? 0, () => console.log('listens'))
if (['good', 'short', 'noisy'].includes(release)) listen()
if (release === 'noisy') setInterval(() => console.error('something is wrong here'), 20)
if (release === 'short') {
  server.on('listening', () => whenTold(() => { console.error('died of old age'); process.exit(9) }))
}
if (release === 'early') {
  listen()
  setTimeout(() => ((ready = true), process.send('ready')), 1000)
}
if (release === 'slow') whenTold(listen)
if (release === 'mute') setInterval(() => {}, 1000)
process.on('SIGINT', () => server.listening ? server.close(() => process.exit(0)) : process.exit(0))
