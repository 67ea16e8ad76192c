"""The health check of app.py, once a second: it imports nothing else, to cost nothing."""

import os
import socket
import sys

with socket.socket() as connection:
    try:
        connection.connect(("127.0.0.1", int(os.environ["APP_PORT"])))
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        healthy = b" 200 " in connection.recv(100)
    except OSError:
        healthy = False
sys.exit(not healthy)
