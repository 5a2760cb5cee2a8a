# Flask and its own server.   pmr start flask -i 4 -- --app flask_app run --port 3000
import os
import time

from flask import Flask

app = Flask(__name__)


@app.get("/")
def pid():
    return f"{os.getpid()}\n"


@app.get("/work")
def work():
    time.sleep(0.03)
    return pid()
