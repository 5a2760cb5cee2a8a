// An answer as it arrives: its first characters, and its length in bytes.

const HEAD = 8192

export class Answer {
  head = ''
  length = 0

  add(bytes) {
    if (this.head.length < HEAD) this.head += bytes.toString('latin1', 0, HEAD)
    this.length += bytes.length
  }
}

// A reader that pauses its `source` for `pace` ms after each 256 KB, or never. It counts bytes and not chunks, which
// are small over TLS, so that an answer takes equally long over every protocol.
const PORTION = 1 << 18

export const reader = (pace) => {
  let taken = 0
  return (source, bytes) => {
    taken += bytes.length
    if (!pace || taken < PORTION) return
    taken = 0
    source.pause()
    setTimeout(() => source.resume(), pace)
  }
}
