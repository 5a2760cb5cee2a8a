// Express.   npm ci && PORT=3000 pmr start express.js -i 4
const express = require('express')

const app = express()
app.get('/', (request, response) => response.send(`${process.pid}\n`))
app.get('/work', (request, response) => setTimeout(() => response.send(`${process.pid}\n`), 30))
const server = app.listen(process.env.PORT)

if (process.env.GRACEFUL !== 'no') process.on('SIGINT', () => server.close(() => process.exit(0)))
