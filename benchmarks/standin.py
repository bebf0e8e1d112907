"""A Trigger.dev that knows the schedule of every task, and answers after a set time.

It takes almost no CPU.

`python -m benchmarks.standin PORT`; `GET /latency/MILLISECONDS` sets the time.
"""

import asyncio
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
latency_seconds = 0.0


def answer(key):
    """Answer with the schedule's id, whether the path names that or its task."""
    body = b'{"id":"sched_%s"}' % key.removeprefix(b"sched_").replace(b"-", b"")
    return ANSWER % (len(body), body)


class Connection(asyncio.Protocol):
    """One request at a time, none of which has a body."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        global latency_seconds
        key = data.split(b" ", 2)[1].rpartition(b"/")[2]
        if data.startswith(b"GET /latency/"):
            latency_seconds = int(key) / 1000
            self.transport.write(answer(key))
        elif latency_seconds:
            asyncio.get_running_loop().call_later(
                latency_seconds, self.transport.write, answer(key)
            )
        else:
            self.transport.write(answer(key))


async def main(port):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
