// NestJS in plain JavaScript, with the output of the decorators written by hand.   npm ci && PORT=3000 pmr start
// nest.js -i 4
require('reflect-metadata')
const { Controller, Get, Module } = require('@nestjs/common')
const { NestFactory } = require('@nestjs/core')

class Answers {
  pid() {
    return `${process.pid}\n`
  }
  work() {
    return new Promise((done) => setTimeout(() => done(this.pid()), 30))
  }
}
const method = (name) => Object.getOwnPropertyDescriptor(Answers.prototype, name)
Get('/')(Answers.prototype, 'pid', method('pid'))
Get('/work')(Answers.prototype, 'work', method('work'))
Controller()(Answers)

class App {}
Module({ controllers: [Answers] })(App)

NestFactory.create(App, { logger: false }).then((app) => {
  if (process.env.GRACEFUL !== 'no') app.enableShutdownHooks(['SIGINT'])
  return app.listen(process.env.PORT)
})
