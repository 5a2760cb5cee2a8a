// Takes memory, a piece at a time, up to the number of megabytes it was given, if there is a file `feast`, which it takes
// away: who comes after it finds none.
const fs = require('node:fs')
const held = []
let limit = 0
try {
  fs.unlinkSync('feast')
  limit = Number(process.argv[2])
} catch {}
console.log(`hog ${process.pid}`)
setInterval(() => { if (held.length < limit) held.push(Buffer.alloc(1 << 20, 1)) }, 2)
