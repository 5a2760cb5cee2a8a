// Bun.   PORT=3000 pmr start bun -i 4 -- bun.ts
Bun.serve({
  port: Number(process.env.PORT ?? 3000),
  async fetch(request) {
    if (new URL(request.url).pathname === '/work') await Bun.sleep(30)
    return new Response(`${process.pid}\n`)
  },
})
