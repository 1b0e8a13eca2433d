"""Connections that must not get in: a program for a pod without a sidecar, told as JSON.

`python -m tests.story.intruder CERTIFICATES ADDRESS:PORT ...` tries each place in each way: in plaintext, over TLS
without a certificate, and with each of the certificates, which are JSON: name -> PEM of certificate and key. An answer
is what HTTP says, a refusal the reason why there was none.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import tempfile
from collections.abc import Iterator, Mapping

ALPNS = ("", "istio-http/1.1", "istio")
"""What a client may say that it speaks: nothing, and Istio's own words, by which chains are chosen."""
LIMIT = 10.0
ANSWERED = "HTTP/"
PLAIN, BARE = "plaintext", "no-certificate"


def contexts(certificates: Mapping[str, str]) -> Iterator[tuple[str, ssl.SSLContext | None]]:
    """(name, how) of each way. Whoever breaks in does not care who answers."""
    yield PLAIN, None
    for name, certificate in {BARE: "", **certificates}.items():
        for alpn in ALPNS:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if alpn:
                context.set_alpn_protocols([alpn])
            if certificate:
                with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                    file.write(certificate)
                    file.flush()
                    context.load_cert_chain(file.name)
            yield f"{name} {alpn}".strip(), context


async def tried(place: str, context: ssl.SSLContext | None) -> str:
    """The first line of the answer; the reason where there is none."""
    address, _, port = place.rpartition(":")
    try:
        async with asyncio.timeout(LIMIT):
            reader, writer = await asyncio.open_connection(address, int(port), ssl=context)
            try:
                writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                line = (await reader.readline()).decode(errors="replace").strip()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    return line or "closed"


async def main(certificates: str, *places: str) -> None:
    """Try everything, a few at a time."""
    found: dict[str, dict[str, str]] = {}
    for place in places:
        ways = list(contexts(json.loads(certificates)))
        answers = await asyncio.gather(*(tried(place, context) for _, context in ways))
        found[place] = {name: answer for (name, _), answer in zip(ways, answers, strict=True)}
    print(json.dumps(found))  # noqa: T201 (the answer of this program)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
