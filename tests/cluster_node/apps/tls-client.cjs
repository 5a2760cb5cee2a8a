// Connects several times with the TLS session of the first connection. Prints how often it was resumed, by how many
// workers.
const https = require('https')
const port = Number(process.argv[2])

const get = (session) =>
  new Promise((resolve, reject) => {
    const options = { port, host: '127.0.0.1', session, rejectUnauthorized: false, agent: false }
    const request = https.get(options, (response) => {
      let body = ''
      response.on('data', (data) => (body += data)).on('end', () => resolve({ ...JSON.parse(body), session: kept }))
    })
    let kept
    request.on('socket', (socket) => socket.on('session', (session) => (kept = session)))
    request.on('error', reject)
  })

;(async () => {
  const { session } = await get()
  const answers = []
  for (let i = 0; i < 6; i++) answers.push(await get(session))
  const workers = new Set(answers.map((answer) => answer.pid)).size
  console.log(JSON.stringify({ resumed: answers.filter((answer) => answer.reused).length, workers }))
})()
