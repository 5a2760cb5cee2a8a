// What may become of a request that has no whole answer.

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

// The promise, or a `hung` after so many ms, when `abandon` gets rid of what hangs.
export const inTime = (promise, limit, what, abandon) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      reject(new Failure('hung', what))
      abandon()
    }, limit)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
