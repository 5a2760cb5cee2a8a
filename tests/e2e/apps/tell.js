// Prints how it was started, and runs on.
console.log(`execArgv:${process.execArgv.filter((arg) => arg.includes('stack')).join('|')}`)
console.log(`args:${process.argv.slice(2).join('|')}`)
console.log(`mode:${process.env.exec_mode} id:${process.env.pm_id} instance:${process.env.NODE_APP_INSTANCE}`)
console.log(`colour:${process.env.COLOUR ?? 'unset'} size:${process.env.SIZE ?? 'unset'} node_env:${process.env.NODE_ENV ?? 'unset'}`)
setInterval(() => {}, 1000)
