// Deno.   PORT=3000 pmr start deno -i 4 -- run --allow-net --allow-env deno.ts
Deno.serve({ port: Number(Deno.env.get('PORT') ?? 3000) }, async (request) => {
  if (new URL(request.url).pathname === '/work') await new Promise((resolve) => setTimeout(resolve, 30))
  return new Response(`${Deno.pid}\n`)
})
