// Three apps in three languages, started together:
//
//   pmr start examples/ecosystem.config.js
//   pmr start examples/ecosystem.config.js --only web --env production
module.exports = {
  apps: [
    {
      name: 'web',
      script: './http/server.js',
      cwd: __dirname,
      instances: 2,
      env: { PORT: process.env.PORT ?? 3000, GREETING: 'hello' },
      env_production: { NODE_ENV: 'production' },
    },
    { name: 'worker', script: './worker.py', cwd: __dirname, args: ['--every', '0.5'], kill_timeout: '5s' },
    { name: 'ticker', script: './ticker.sh', cwd: __dirname, args: '0.2', max_restarts: 5, autorestart: true },
  ],
}
