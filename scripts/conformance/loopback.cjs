// Preloaded into the suite's origin: whatever address and port it asks for, it listens on a free port of the loopback
// interface, and writes that port to the file that CONFORMANCE_PORT_FILE names.
'use strict'
const fs = require('fs')
const net = require('net')

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (...args) {
  const ready = args.find(arg => typeof arg === 'function')
  this.once('listening', () => {
    const file = process.env.CONFORMANCE_PORT_FILE
    // Renamed into place, so that nobody reads half a number.
    fs.writeFileSync(`${file}.new`, String(this.address().port))
    fs.renameSync(`${file}.new`, file)
  })
  return listen.call(this, { port: 0, host: '127.0.0.1' }, ready)
}
