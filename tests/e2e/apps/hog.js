// Takes memory, a piece at a time, up to the number of megabytes it was given, unless a file `diet` stands in its way.
const fs = require('node:fs')
const held = []
const limit = fs.existsSync('diet') ? 0 : Number(process.argv[2])
console.log(`hog ${process.pid}`)
setInterval(() => { if (held.length < limit) held.push(Buffer.alloc(1 << 20, 1)) }, 2)
