// Sends as many messages as its argument says at each SIGUSR2, and prints a line when all are sent.
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
