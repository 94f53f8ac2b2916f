"""A TCP proxy that fails as networks do: delay, loss, reset, half-open connections, little bandwidth. It changes no byte."""

import asyncio
import socket
import struct
import threading

CHUNK = 16384


class ProxyLoop:
    """The thread that carries all proxies' bytes."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def close(self):
        async def cancel_all():
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self.call(cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def reset(writer):
    """Ends one side with a TCP reset: its peer learns at once, the other side learns nothing."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Connection:
    def __init__(self, client, server):
        self.writers = {"client": client, "server": server}
        self.dead_side = None  # of a half-open connection: what the living side says is swallowed

    def reset(self):
        for side, writer in self.writers.items():
            if side != self.dead_side:
                reset(writer)

    def half_open(self, dead_side):
        if self.dead_side is None:
            self.dead_side = dead_side
            reset(self.writers[dead_side])


class FaultProxy:
    """Listens on a port of its own and passes on to `target`. Faults hold for the connections there are and those that come, until
    `heal`; `reset` and `half_open` happen to those there are."""

    def __init__(self, loop, target=None):
        self.proxies, self.target = loop, target
        self.connections = set()
        self.seconds = 0.0  # before every chunk
        self.bytes_per_second = None
        self.server = loop.call(self.listen())
        self.port = self.server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"

    async def listen(self):
        self.flowing = asyncio.Event()
        self.flowing.set()
        return await asyncio.start_server(self.accept, "127.0.0.1", 0, limit=CHUNK)

    def on_loop(self, action):
        async def run():
            action()
        self.proxies.call(run())

    def delay(self, seconds):
        self.on_loop(lambda: setattr(self, "seconds", seconds))

    def throttle(self, bytes_per_second):
        self.on_loop(lambda: setattr(self, "bytes_per_second", bytes_per_second))

    def drop(self):
        """Nothing passes. As TCP sends again what was lost, what was said meanwhile arrives when the network heals."""
        self.on_loop(lambda: self.flowing.clear())

    def reset(self):
        self.on_loop(lambda: [c.reset() for c in list(self.connections)])

    def half_open(self, dead_side):
        self.on_loop(lambda: [c.half_open(dead_side) for c in list(self.connections)])

    def heal(self):
        def everything():
            self.seconds, self.bytes_per_second = 0.0, None
            self.flowing.set()
        self.on_loop(everything)

    def close(self):
        self.on_loop(lambda: (self.server.close(), [c.reset() for c in list(self.connections)]))

    async def accept(self, from_client, to_client):
        await self.flowing.wait()
        host, port = self.target.rsplit(":", 1)
        try:
            from_server, to_server = await asyncio.open_connection(host, int(port), limit=CHUNK)
        except OSError:
            reset(to_client)
            return
        connection = Connection(to_client, to_server)
        self.connections.add(connection)
        try:
            await asyncio.gather(self.pump(connection, "client", from_client, to_server),
                                 self.pump(connection, "server", from_server, to_client))
        finally:
            self.connections.discard(connection)
            connection.reset()

    async def pump(self, connection, side, source, sink):
        """What `side` says, until its end."""
        other = "server" if side == "client" else "client"
        try:
            while True:
                data = await source.read(min(CHUNK, self.bytes_per_second or CHUNK))
                if self.seconds:
                    await asyncio.sleep(self.seconds)
                if self.bytes_per_second:
                    await asyncio.sleep(len(data) / self.bytes_per_second)
                await self.flowing.wait()
                if connection.dead_side == other and data:
                    continue
                if not data:
                    break
                sink.write(data)
                await sink.drain()
            if connection.dead_side is None:
                sink.write_eof()
        except (ConnectionError, OSError):
            if connection.dead_side is None:
                connection.reset()
