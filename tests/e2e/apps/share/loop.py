# A server with one event loop, on all addresses.
import asyncio, os


async def serve(reader, writer):
    try:
        while line := await reader.readline():
            last = False
            while header := (await reader.readline()).strip():
                last |= header.lower() == b"connection: close"
            if b"/work" in line:
                await asyncio.sleep(0.03)
            body = b"%d\n" % os.getpid()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            if last:
                break
    except ConnectionError:
        pass
    writer.close()


async def main():
    server = await asyncio.start_server(serve, None, int(os.environ["PORT"]))
    await server.serve_forever()


asyncio.run(main())
