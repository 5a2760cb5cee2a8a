// Lets a cluster worker finish without losing a request when its manager asks it to: `{cmd: 'NODE_PMR', act: 'drain'}`.
//
// By then no new connection comes. From then on HTTP/1 connections end with a response that says `Connection: close`,
// HTTP/2 sessions say GOAWAY, and when the last connection of the last server has ended we answer `drained`. Closing the
// servers instead would cut keep-alive connections on which a request may be under way.
//
// Asked to count (`act: 'count'`), it says at once how many connections are open (`open`), and again whenever that is
// another number than the manager can know of itself, who sees every connection come and none go.
//
// Loaded with --require before the app. It must stay unnoticed: until it is asked for something it only remembers which
// servers and HTTP/2 sessions there are, it keeps nothing alive, and it loads no module that is not loaded anyway (an
// IPC channel needs `net`). Plain old JavaScript, for Node 16 and later.
'use strict'

const send = process.send

if (typeof send === 'function' && process.connected && require('cluster').isWorker) {
  const net = require('net')
  const servers = new Set()
  const sessions = new Map() // how many streams of each are open
  const newest = new WeakMap() // the response to the newest request of each HTTP/1 connection
  const last = new WeakMap() // that to the last one, once a drain has come so far
  let draining = false
  let expected // how many connections the manager takes to be open; it does not care before it asks
  let counting = false

  const say = (act, more) => send.call(process, { cmd: 'NODE_PMR', act, ...more }, undefined, undefined, () => {})

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
      // The app must not see it: its client was told to ask again elsewhere.
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
    // GOAWAY right behind a request: a client that sends one after the other has none on the way that it would cross.
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

  // A client that was told GOAWAY hangs up when it has its answers. One that does not, or asks nothing we could say it
  // behind, is hung up on when nothing has been under way for a while; not sooner, for Node 18's `close()` hangs up
  // before the end of the last answer is sent. Node calls that itself when the client says GOAWAY in its turn.
  const retire = (session) => {
    session.close = (done) => {
      if (typeof done === 'function') session.once('close', done)
      retire(session)
    }
    setTimeout(() => {
      if (sessions.get(session) === 0) Object.getPrototypeOf(session).close.call(session)
    }, 1000).unref()
  }

  // A client may send requests before the answers to earlier ones have come (RFC 9112, 9.3.2). What the app has begun
  // with is finished; the newest of that is the last, unless its head is out and has promised more.
  const isLast = (response) => {
    const socket = response.req && response.req.socket
    const candidate = newest.get(socket)
    if (!last.has(socket) && candidate && !candidate.headersSent) last.set(socket, candidate)
    return last.get(socket) === response
  }

  // Hanging up while bytes come in makes the kernel reset the connection, and the client may lose the response to that.
  // So after the end of ours we wait for the client's, and take no notice of what it says.
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

  // A server that accepts for itself (shared handle, `exclusive`) has a real handle. Close only that: http's own
  // close() would cut idle connections, too. The others' handles are dummies; they get nothing new anyway.
  const stopAccepting = (server) => {
    if (server._handle && server._handle.fd >= 0) net.Server.prototype.close.call(server)
  }

  const drain = () => {
    draining = true
    closeAfterResponse()
    for (const session of sessions.keys()) retire(session)
    servers.forEach(stopAccepting)
    // Node tells nobody when a server's last connection ends while it is open. Asking costs next to nothing, and only
    // a worker on its way out does it.
    const timer = setInterval(() => connections((open) => {
      if (open > 0) return
      clearInterval(timer)
      say('drained')
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

  // When all that happens in this turn has happened.
  const count = () => {
    if (counting) return
    counting = true
    setImmediate(() => connections((open) => {
      counting = false
      if (open !== expected) say('open', { count: (expected = open) })
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
  say('hello', { version: process.version })
}
