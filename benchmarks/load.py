"""Clients that delete one task after the other, each on a kept connection.

`python -m benchmarks.load PORT KEY CLIENTS SECONDS RATE < ids` prints one JSON object: the answers
by status, the seconds it took, the latencies' mean, p50, p99 and maximum in milliseconds, of all
answers and of each status, and the generator's own CPU seconds. With a rate above 0 requests are
begun so many times a second, at random moments, and what they wait for a free client counts too.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter, defaultdict


class Client(asyncio.Protocol):
    """Sends a request when it is told to, and says when it is free for the next."""

    def __init__(self, load):
        self.load = load
        self.received = b""
        self.due = None

    def connection_made(self, transport):
        self.transport = transport
        self.load.free(self)

    def send(self, task_id, due):
        body = b'{"id":"%s"}' % task_id
        self.due = due
        self.transport.write(
            b"DELETE /api/tasks HTTP/1.1\r\nHost: benchmark\r\nx-api-key: %s\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (self.load.key, len(body), body)
        )

    def data_received(self, data):
        self.received += data
        head, _, body = self.received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
        if not length or len(body) < int(length):
            return
        self.load.latencies[head[9:12].decode()].append(time.perf_counter() - self.due)
        self.received, self.due = b"", None
        if b"connection: close" not in head.lower():
            self.load.free(self)

    def connection_lost(self, _):
        self.load.lost += self.due is not None
        self.load.gone(self)


class Load:
    """What the clients do, and what came of it."""

    def __init__(self, port, key, ids, clients, seconds, rate):
        self.port, self.key, self.ids = port, key, iter(ids)
        self.clients, self.rate = clients, rate
        self.started = time.perf_counter()
        self.end = self.started + seconds
        self.latencies = defaultdict(list)
        self.lost = self.open = 0
        self.idle, self.waiting = [], []
        self.finished = asyncio.get_running_loop().create_future()

    def free(self, client):
        """Give a client its next request; without a rate that is at once."""
        if self.waiting:
            client.send(*self.waiting.pop(0))
        elif self.rate and time.perf_counter() < self.end:
            self.idle.append(client)
        else:
            self.send_now(client)

    def send_now(self, client):
        now = time.perf_counter()
        task_id = next(self.ids, None) if now < self.end else None
        if task_id is None:
            self.end = min(self.end, now)
            client.transport.close()
        else:
            client.send(task_id, now)

    async def connect(self):
        self.open += 1
        await asyncio.get_running_loop().create_connection(
            lambda: Client(self), "127.0.0.1", self.port
        )

    async def keep_the_rate(self):
        due = time.perf_counter()
        while (due := due + random.expovariate(self.rate)) < self.end:
            await asyncio.sleep(due - time.perf_counter())
            request = (next(self.ids), due)
            if self.idle:
                self.idle.pop().send(*request)
            else:
                self.waiting.append(request)
                if self.open < self.clients:
                    await self.connect()
        self.end = min(self.end, time.perf_counter())
        for client in self.idle:
            client.transport.close()

    def gone(self, client):
        self.open -= 1
        if client in self.idle:
            self.idle.remove(client)
        if not self.open and time.perf_counter() > self.end:
            self.finished.set_result(None)

    def figures(self, cpu):
        """Return what the module's docstring says."""
        statuses = Counter({status: len(found) for status, found in self.latencies.items()})
        if self.lost:
            statuses["closed"] = self.lost
        return {
            "statuses": statuses,
            "seconds": time.perf_counter() - self.started,
            **_percentiles([one for found in self.latencies.values() for one in found]),
            "of": {status: _percentiles(found) for status, found in self.latencies.items()},
            "cpu": time.process_time() - cpu,
        }


def _percentiles(seconds):
    found = sorted(1000 * one for one in seconds)
    return {
        "mean": sum(found) / len(found),
        "p50": found[len(found) // 2],
        "p99": found[int(len(found) * 0.99)],
        "max": found[-1],
    }


async def run(port, key, clients, seconds, rate, ids):
    """Put the load on *port*."""
    cpu = time.process_time()
    load = Load(port, key, ids, clients, seconds, rate)
    if rate:
        await load.keep_the_rate()
    else:
        for _ in range(clients):
            await load.connect()
    await load.finished
    return load.figures(cpu)


if __name__ == "__main__":
    port, key, clients, seconds, rate = sys.argv[1:6]
    ids = sys.stdin.buffer.read().split()
    load = run(int(port), key.encode(), int(clients), float(seconds), float(rate), ids)
    sys.stdout.write(json.dumps(asyncio.run(load)))
