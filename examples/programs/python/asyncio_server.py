# Nothing but asyncio.   PORT=3000 pmr start asyncio_server.py -i 4
import asyncio
import os


async def serve(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"GET /work "):
        await asyncio.sleep(0.03)
    body = f"{os.getpid()}\n"
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ.get("PORT", "3000")))
    await server.serve_forever()


asyncio.run(main())
