"""Clients that delete one task after the other, each on a kept connection.

`python -m benchmarks.load PORT KEY CLIENTS SECONDS < ids` prints one JSON object: the answers by
status, the seconds it took, the latencies' p50, p99 and maximum in milliseconds, and the
generator's own CPU seconds.
"""

import asyncio
import json
import sys
import time
from collections import Counter


class Client(asyncio.Protocol):
    """Sends a request, waits for its answer, and sends the next, until the time is up."""

    def __init__(self, ids, key, end, done, statuses, latencies):
        self.ids, self.key, self.end, self.done = ids, key, end, done
        self.statuses, self.latencies = statuses, latencies
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        task_id = next(self.ids, None) if time.perf_counter() < self.end else None
        if task_id is None:
            self.transport.close()
            return
        body = b'{"id":"%s"}' % task_id
        self.started = time.perf_counter()
        self.transport.write(
            b"DELETE /api/tasks HTTP/1.1\r\nHost: benchmark\r\nx-api-key: %s\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (self.key, len(body), body)
        )

    def data_received(self, data):
        self.received += data
        head, _, body = self.received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
        if not length or len(body) < int(length):
            return
        self.latencies.append(time.perf_counter() - self.started)
        self.statuses[head[9:12].decode()] += 1
        self.received = b""
        if b"connection: close" not in head.lower():
            self.send()

    def connection_lost(self, _):
        if self.received or time.perf_counter() < self.end:
            self.statuses["closed"] += 1
        if not self.done.done():
            self.done.set_result(None)


async def run(port, key, clients, seconds, ids):
    """Return what the module's docstring says."""
    loop = asyncio.get_running_loop()
    statuses, latencies = Counter(), []
    iterator = iter(ids)
    started, cpu = time.perf_counter(), time.process_time()
    finished = [loop.create_future() for _ in range(clients)]
    for done in finished:
        await loop.create_connection(
            lambda done=done: Client(iterator, key, started + seconds, done, statuses, latencies),
            "127.0.0.1",
            port,
        )
    await asyncio.gather(*finished)
    took = time.perf_counter() - started
    latencies.sort()
    return {
        "statuses": statuses,
        "seconds": took,
        "p50": latencies[len(latencies) // 2] * 1000,
        "p99": latencies[int(len(latencies) * 0.99)] * 1000,
        "max": latencies[-1] * 1000,
        "cpu": time.process_time() - cpu,
    }


if __name__ == "__main__":
    port, key, clients, seconds = sys.argv[1:5]
    ids = sys.stdin.buffer.read().split()
    result = asyncio.run(run(int(port), key.encode(), int(clients), float(seconds), ids))
    sys.stdout.write(json.dumps(result))
