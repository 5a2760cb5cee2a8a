// The answers of the proof for Node's own http and https.
const work = require('./work.cjs')

const answers = {
  '/': (request, response) => response.end(work.quick()),
  '/work': async (request, response) => response.end(await work.work()),
  '/large': (request, response) => response.end(work.large()),
  '/long': (request, response) => work.long().pipe(response),
  '/upload': async (request, response) => response.end(await work.upload(request)),
  '/grow': (request, response) => response.end(work.grow()),
}

const failing = (error) => {
  if (error.code !== 'ECONNRESET') throw error // the client has gone
}

exports.answer = (request, response) => {
  if (work.sick) return response.writeHead(503).end('sick\n')
  const answer = answers[request.url] ?? ((request, response) => response.writeHead(404).end())
  Promise.resolve(answer(request, response)).catch(failing)
}
