// An answer as it comes in: its first characters, and how much there was of it.

const HEAD = 8192

export class Answer {
  head = ''
  length = 0

  add(bytes) {
    if (this.head.length < HEAD) this.head += bytes.toString('latin1', 0, HEAD)
    this.length += bytes.length
  }
}

// A reader that takes so many bytes and then so many ms of rest, or none: `source` has `pause` and `resume`. By bytes and
// not by pieces, which TLS makes small, so that an answer takes as long over every protocol.
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
