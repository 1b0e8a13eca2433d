"""The sample tcp-echo: each line that comes in goes back with a prefix before it.

`python -m examples.tcp_echo PORTS [PREFIX]`, such as ``9000,9001,9002 one``: the arguments of Istio's image.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterable


async def echo(prefix: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection until the client ends it."""
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):  # a broken connection is the client's matter
        async for line in reader:
            writer.write(f"{prefix} ".encode() + line if prefix else line)
            await writer.drain()
    writer.close()


async def listen(ports: Iterable[int], prefix: str, host: str = "") -> list[asyncio.Server]:
    """Listen on all ports; port 0 is a free one. The caller closes.

    Raises:
        OSError: a port is taken.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await echo(prefix, reader, writer)

    return [await asyncio.start_server(serve, host or None, port) for port in ports]


async def serve_forever(ports: Iterable[int], prefix: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = await listen(ports, prefix)
    await stop.wait()
    for server in servers:
        server.close()


def main(arguments: list[str]) -> int:
    """0 after SIGTERM; 2 for ports that are none."""
    ports, prefix = (*arguments, "", "")[:2]
    try:
        numbers = [int(port) for port in ports.split(",")]
    except ValueError:
        print("usage: python -m examples.tcp_echo PORT[,PORT...] [PREFIX]", file=sys.stderr)
        return 2
    asyncio.run(serve_forever(numbers, prefix))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
