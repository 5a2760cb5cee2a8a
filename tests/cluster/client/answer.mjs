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

// A reader that takes a piece and then its time: `source` has `pause` and `resume`.
export const slowly = (source, ms) => {
  source.pause()
  setTimeout(() => source.resume(), ms)
}
