// Lets a cluster worker finish without losing a request when the daemon sends `{cmd: 'NODE_PMR', act: 'drain'}`.
//
// The daemon has stopped new connections before. From then on HTTP/1 connections end with a response that has
// `Connection: close`, HTTP/2 sessions send GOAWAY, and when the last connection of the last server has ended, the
// module sends `drained`. Closing the servers instead would cut keep-alive connections on which a request may be in
// flight.
//
// After `act: 'count'` it reports how many connections are open (`open`), at once and whenever the number differs from
// the one that the daemon can compute: the daemon sees each connection open and none close.
//
// Loaded with --require before the app. The app must not notice it: before the first request of the daemon it only
// records the servers and HTTP/2 sessions, it keeps no event loop alive, and it loads no module that is not loaded
// anyway (an IPC channel needs `net`). Plain CommonJS for Node 16 and later.
'use strict'

const send = process.send

if (typeof send === 'function' && process.connected && require('cluster').isWorker) {
  const net = require('net')
  const servers = new Set()
  const sessions = new Map() // the number of open streams of each HTTP/2 session
  const newest = new WeakMap() // the response to the newest request of each HTTP/1 connection
  const last = new WeakMap() // while draining: the response with which an HTTP/1 connection ends
  let draining = false
  let expected // the number of open connections that the daemon computes; undefined before its request to count
  let counting = false

  const report = (act, more) => send.call(process, { cmd: 'NODE_PMR', act, ...more }, undefined, undefined, () => {})

  // Servers of every kind (net, tls, http, https, http2) descend from this one.
  const emit = net.Server.prototype.emit
  net.Server.prototype.emit = function (event, subject) {
    if (event === 'listening') {
      servers.add(this)
    } else if (event === 'close') {
      servers.delete(this)
    } else if ((event === 'connection' || event === 'secureConnection') && expected !== undefined) {
      subject.once('close', count)
    } else if (event === 'request' && subject && subject.httpVersionMajor === 1) {
      const socket = subject.socket
      // The app must not get this request: its client repeats it elsewhere, after an answer with `Connection: close`.
      if (last.has(socket)) return subject.resume(), true
      newest.set(socket, arguments[2])
    } else if (event === 'session' && subject && typeof subject.goaway === 'function') {
      sessions.set(subject, 0)
      subject.once('close', () => sessions.delete(subject))
      if (draining) retire(subject)
    }
    const session = event === 'stream' && subject ? subject.session : undefined
    if (sessions.has(session)) began(session, subject)
    const result = emit.apply(this, arguments)
    // GOAWAY is sent right after a request arrives: a client with one request at a time has no other in flight then.
    if (draining && sessions.has(session) && !session.destroyed) session.goaway()
    return result
  }

  const began = (session, stream) => {
    sessions.set(session, sessions.get(session) + 1)
    stream.once('close', () => {
      if (!sessions.has(session)) return
      sessions.set(session, sessions.get(session) - 1)
      if (draining) retire(session)
    })
  }

  // A client that got GOAWAY closes the session when it has its answers. A session that its client keeps open, or that
  // has no request after which GOAWAY could be sent, is closed after a second without streams; not sooner, since Node
  // 18's `close()` closes the connection before the end of the last answer is sent. Node calls `close()` by itself when
  // the client sends GOAWAY, so it is replaced.
  const retire = (session) => {
    session.close = (done) => {
      if (typeof done === 'function') session.once('close', done)
      retire(session)
    }
    setTimeout(() => {
      if (sessions.get(session) === 0) Object.getPrototypeOf(session).close.call(session)
    }, 1000).unref()
  }

  // A client may pipeline requests (RFC 9112, 9.3.2). Those that the app has begun are answered, and the response to
  // the newest of them is the last, unless its head was sent already, without `Connection: close`.
  const isLast = (response) => {
    const socket = response.req && response.req.socket
    const candidate = newest.get(socket)
    if (!last.has(socket) && candidate && !candidate.headersSent) last.set(socket, candidate)
    return last.get(socket) === response
  }

  // If a connection is closed while bytes arrive, the kernel resets it, and the client may lose the response. So the
  // worker ends its side, and drops what the client sends until that ends, too, for two seconds at most.
  const linger = (socket) => {
    socket.destroySoon = () => {
      socket.end()
      socket.resume()
      setTimeout(() => socket.destroy(), 2000).unref()
    }
  }

  const closeAfterResponse = () => {
    const { ServerResponse } = require('http')
    const { writeHead } = ServerResponse.prototype
    // Also reaches requests that are being served at this moment.
    ServerResponse.prototype.writeHead = function (status) {
      if (status !== 101 && !this.headersSent && isLast(this)) {
        this.shouldKeepAlive = false
        if (this.hasHeader('connection')) this.setHeader('connection', 'close')
        linger(this.req.socket)
      }
      return writeHead.apply(this, arguments)
    }
  }

  // A server that accepts by itself (shared handle, `exclusive`) has a real handle. Only that is closed: http's own
  // close() would cut idle connections, too. The handles of other servers are dummies, and the daemon sends them no
  // more.
  const stopAccepting = (server) => {
    if (server._handle && server._handle.fd >= 0) net.Server.prototype.close.call(server)
  }

  const drain = () => {
    draining = true
    closeAfterResponse()
    for (const session of sessions.keys()) retire(session)
    servers.forEach(stopAccepting)
    // Node has no event for the end of the last connection of an open server. Polling is cheap, and only a draining
    // worker does it.
    const timer = setInterval(() => connections((open) => {
      if (open > 0) return
      clearInterval(timer)
      report('drained')
    }), 10)
  }

  const connections = (done) => {
    let left = servers.size
    let open = 0
    if (left === 0) return done(open)
    for (const server of servers) {
      server.getConnections((error, count) => {
        open += error ? 0 : count
        if (--left === 0) done(open)
      })
    }
  }

  // Counts after all events of this turn of the event loop.
  const count = () => {
    if (counting) return
    counting = true
    setImmediate(() => connections((open) => {
      counting = false
      if (open !== expected) report('open', { count: (expected = open) })
    }))
  }

  process.on('internalMessage', (message) => {
    const { cmd, act } = message || {}
    if (cmd === 'NODE_CLUSTER' && act === 'newconn' && expected !== undefined) {
      expected += 1
      count()
    }
    if (cmd !== 'NODE_PMR') return
    if (act === 'drain' && !draining) drain()
    if (act === 'count') {
      expected = NaN
      count()
    }
  })
  report('hello', { version: process.version })
}
