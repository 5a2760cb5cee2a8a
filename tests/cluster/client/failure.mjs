// What may become of a request that has no whole answer.
import { now, watching } from './clock.mjs'

// `how` is `refused`, `reset`, `truncated`, `hung` or `wrong`; or `again`, which is no failure: by the words of its
// protocol the server had not begun with the request, and wants it asked on another connection; or `stale`: the
// connection ended without a byte of an answer, having served before.
export class Failure extends Error {
  constructor(how, what) {
    super(what)
    this.how = how
  }
}

// `begun`: part of the answer had come.
export const named = (error, begun) => {
  if (error instanceof Failure) return error
  const how = error.code === 'ECONNREFUSED' ? 'refused' : begun ? 'truncated' : 'reset'
  return new Failure(how, `${error.code ?? ''} ${error.message}`)
}

// The promise, or a `hung` when nothing was heard for so many ms, and then `abandon` gets rid of what hangs. `heard`: when
// there was a sign of life, in the client's own time.
export const unlessSilent = (promise, limit, heard, what, abandon) => {
  let ended
  const silent = new Promise((_, reject) => {
    ended = watching(() => {
      if (now() - heard() <= limit) return
      reject(new Failure('hung', what))
      abandon()
    })
  })
  return Promise.race([promise, silent]).finally(ended)
}
