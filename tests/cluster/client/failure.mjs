// The results of a request without a complete answer.
import { now, watching } from './clock.mjs'

// `how` is `refused`, `reset`, `truncated`, `hung` or `wrong`; or `again`, which is no failure: by the rules of the protocol
// the server has not begun the request, and the client must send it on another connection; or `stale`: the connection
// had served before and ended without a byte of an answer.
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

// The result of the promise, or `hung` if no byte came for `limit` ms; then `abandon` is called. `heard` returns when
// the last byte came, in the client's own time.
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
