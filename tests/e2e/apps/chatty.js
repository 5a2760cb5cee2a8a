// Sends as many messages as it was told, each time it gets SIGUSR2, and says when all are out.
process.on('SIGUSR2', () => {
  const total = Number(process.argv[2])
  let sent = 0
  const more = () => {
    if (sent === total) return console.log('all sent')
    sent += 1
    process.send({ number: sent, padding: 'x'.repeat(1000) }, more)
  }
  more()
})
process.on('message', () => {})
console.log('chatty')
