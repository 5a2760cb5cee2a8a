# What gunicorn and waitress serve.
#
#   pmr start gunicorn -i 4 -- --bind :3000 wsgi_app
#   pmr start waitress-serve -i 4 -- --port 3000 wsgi_app:application
import os
import time


def application(environ, start_response):
    if environ["PATH_INFO"] == "/work":
        time.sleep(0.03)
    body = f"{os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
