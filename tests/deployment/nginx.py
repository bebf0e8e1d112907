"""A real nginx with `ops/nginx.conf`, and what stands behind it besides our service."""

import asyncio
import os
import queue
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.postgres import free_port
from tests.waiting import wait_for

SNIPPET = Path(__file__).resolve().parents[2] / "ops" / "nginx.conf"
# Of one worker, as each has idle connections of its own; and what it writes stays in its folder.
MAIN = """
{user}
worker_processes 1;
pid pid;
error_log error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include snippet.conf;
}}
"""


@contextmanager
def nginx(program, folder, recoup_port, existing_port):
    """Run the snippet with these two behind it; yield its URL."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    text = SNIPPET.read_text()
    for old, new in {
        "127.0.0.1:8000": f"127.0.0.1:{recoup_port}",
        "127.0.0.1:3000": f"127.0.0.1:{existing_port}",
        "listen 8080": f"listen 127.0.0.1:{port}",
    }.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "snippet.conf").write_text(text)
    (folder / "main.conf").write_text(MAIN.format(user="user root;" if os.getuid() == 0 else ""))
    command = [program, "-p", folder, "-c", "main.conf", "-e", "error.log", "-g", "daemon off;"]
    process = subprocess.Popen(command)
    try:
        wait_for(lambda: _listens(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "error.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port):
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@contextmanager
def existing_api():
    """Play the API that was there before; yield its port, and the list of what it is asked.

    Whatever that is, it answers 200 with a header that tells it from us.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self):
            """Take any method as a GET."""
            parsed = super().parse_request()
            if parsed:
                asked.append((self.command, self.path))
                self.command = "GET"
            return parsed

        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("X-Existing", "yes")
            for name in ("Host", "X-Forwarded-For", "X-Forwarded-Proto"):
                self.send_header(f"Told-{name}", self.headers.get(name, ""))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, asked
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def long_way(port, seconds):
    """Yield a port from where all that is sent to *port*, and back, takes so long."""
    started = queue.Queue()
    thread = threading.Thread(target=lambda: asyncio.run(_lead(port, seconds, started)))
    thread.start()
    own_port, stop = started.get()
    yield own_port
    stop()
    thread.join()


async def _lead(port, seconds, started):
    async def carry(reader, writer):
        with suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(seconds)
                writer.write(data)
            await asyncio.sleep(seconds)
            writer.write_eof()

    async def connect(reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
        finally:
            writer.close()
            far_writer.close()

    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    async with await asyncio.start_server(connect, "127.0.0.1", 0, backlog=1024) as server:
        own_port = server.sockets[0].getsockname()[1]
        started.put((own_port, lambda: loop.call_soon_threadsafe(stopped.set)))
        await stopped.wait()
        while len(asyncio.all_tasks()) > 1:  # who came this way has gone, and is soon seen to be
            await asyncio.sleep(seconds)
