// Allocates memory in pieces, up to the number of megabytes in its argument, if the file `feast` exists. It removes the
// file, so that its successor allocates nothing.
const fs = require('node:fs')
const held = []
let limit = 0
try {
  fs.unlinkSync('feast')
  limit = Number(process.argv[2])
} catch {}
console.log(`hog ${process.pid}`)
setInterval(() => { if (held.length < limit) held.push(Buffer.alloc(1 << 20, 1)) }, 2)
