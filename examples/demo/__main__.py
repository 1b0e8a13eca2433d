"""Plays the demo (`make demo`), keeps the mesh up (`make demo-up`) or ends it (`make demo-down`)."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

from examples.demo.mesh import bookinfo
from examples.demo.steps import STEPS, ClaimError
from node import home
from node.errors import MeshError

NAME = "demo"
PORT = 8080
DEBUG_PORT = 15014
_INTERRUPTED = 130
"""The exit code of programs that Ctrl-C ends: 128 and the signal's number."""
APPLY = ".venv/bin/meshnode --name"
GO_ON = f"""
  Go on:
    make demo-up      keeps BookInfo running, its page on http://127.0.0.1:{PORT}/productpage,
                      what the mesh does on http://127.0.0.1:{DEBUG_PORT}/debug/page/
    make demo-down    ends it
    docs/architecture.md says how a change travels, docs/limits.md what does not work yet
"""


async def play() -> int:
    """All steps; 0 only if every one held."""
    started = time.monotonic()
    print("Bringing BookInfo up: control plane, ingress gateway, six pods with sidecars (network namespaces) ...")
    held = 0
    async with bookinfo() as book:
        print(f"Up after {time.monotonic() - started:.1f} s.\n\n{book.mesh.table()}\n")
        for number, step in enumerate(STEPS, 1):
            print(f"{number}. {step.claim}", flush=True)
            try:
                print(f"   ok: {await step.show(book)}", flush=True)
                held += 1
            except (ClaimError, MeshError, TimeoutError) as error:
                print(f"   FAILED: {error or type(error).__name__}", flush=True)
    print(f"\n{held} of {len(STEPS)} steps held, {time.monotonic() - started:.0f} s. Everything is removed again.")
    print(GO_ON)
    return int(held != len(STEPS))


async def up() -> int:
    """Keep BookInfo running until SIGTERM, SIGINT or `make demo-down`."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("Bringing BookInfo up ...", flush=True)
    async with bookinfo(PORT, NAME, DEBUG_PORT) as book:
        print(f"\n{book.mesh.table()}\n")
        print(f"The page:  http://127.0.0.1:{PORT}/productpage")
        print(f"The mesh:  {book.debug}/debug/page/")
        print(f"A change:  {APPLY} {NAME} apply -f examples/bookinfo/networking/reviews-v3.yaml")
        print(f"To ask it: .venv/bin/istioctl proxy-status --monitoring-address {book.debug.removeprefix('http://')}")
        print("To end it: make demo-down, or Ctrl-C here", flush=True)
        await stop.wait()
    return 0


async def down() -> int:
    """End what `up` left running."""
    print("ended" if await home.end(NAME, home.DEFAULT_ROOT) else "nothing was running")
    return 0


def main(arguments: list[str]) -> int:
    """0 if all went well; 1 with one line where the machine lacks something; 2 for an unknown word."""
    actions = {"play": play, "up": up, "down": down}
    name = arguments[0] if arguments else "play"
    if name not in actions:
        print(f"usage: python -m examples.demo [{'|'.join(actions)}]", file=sys.stderr)
        return 2
    try:
        return asyncio.run(actions[name]())
    except (MeshError, OSError) as error:  # OSError: a port is taken
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
