"""A Trigger.dev that says 200 to everything after a set time, for almost no CPU.

`python -m benchmarks.standin PORT`; `GET /latency/MILLISECONDS` sets the time.
"""

import asyncio
import sys

BODY = b'{"id":"sched_benchmark"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)
latency_seconds = 0.0


class Connection(asyncio.Protocol):
    """One request at a time, none of which has a body."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        global latency_seconds
        if data.startswith(b"GET /latency/"):
            latency_seconds = int(data.split(b" ")[1].rpartition(b"/")[2]) / 1000
            self.transport.write(ANSWER)
        elif latency_seconds:
            asyncio.get_running_loop().call_later(latency_seconds, self.transport.write, ANSWER)
        else:
            self.transport.write(ANSWER)


async def main(port):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
