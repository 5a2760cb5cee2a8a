# What uvicorn and hypercorn serve.
#
#   pmr start uvicorn -i 4 -- --port 3000 asgi_app:app
#   pmr start hypercorn -i 4 -- --bind 127.0.0.1:3000 asgi_app:app
import asyncio
import os


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"] == "/work":
        await asyncio.sleep(0.03)
    body = f"{os.getpid()}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
