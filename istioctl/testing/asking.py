"""A test's request as the question that ``explain`` follows, and who in the mesh sends it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from istioctl.errors import CommandError
from istioctl.offline.world import Names, Workload
from istioctl.testing.spec import Case, Request, Source
from istiod.explain import question
from istiod.explain.journey import Party
from istiod.explain.question import Question

OUTSIDE: Final = Party(name="outside", namespace="", address=question.OUTSIDE, identity="", proxied=False)
"""A client without a proxy and without an identity."""


def asked(case: Case) -> Question:
    """The question.

    Raises:
        CommandError: the URL or an address is none.
    """
    said = case.request
    scheme, host, port, path = _place(said)
    for field, address in (("request.address", said.address), ("from.address", case.source.address)):
        if address and not question.is_address(address):
            raise CommandError(f"{field}: {address!r} is no IP address")
    return Question(
        workload=case.source.workload or case.source.gateway or "outside",
        scheme=scheme,
        host=host,
        port=port,
        path=path,
        method=said.method or ("POST" if scheme == "grpc" else "GET"),
        headers={name.lower(): value for name, value in said.headers.items()},
        claims=said.claims,
        address=said.address,
        source=case.source.address,
        sni=said.sni,
        moment=time.time(),
    )


def _place(said: Request) -> tuple[str, str, int, str]:
    try:
        if said.url:
            return question.parsed(said.url)
        port = f":{said.port}" if said.port else ""
        scheme, host, number, _ = question.parsed(f"{said.protocol.lower()}://{said.host}{port}")
    except question.QuestionError as error:
        raise CommandError(f"request: {error}") from error
    return scheme, host, number, said.path


def sender(source: Source, names: Names) -> Workload | None:
    """The workload that sends it, or the gateway that gets it; None: somebody outside.

    Raises:
        CommandError: there is none.
    """
    if source.outside:
        return None
    if source.gateway:
        found = names.find(source.gateway, source.namespace)
        if not found.router:
            raise CommandError(f"from.gateway: {found.name} is no gateway: no Gateway selects it")
        return found
    if source.workload:
        found = names.find(source.workload, source.namespace)
        if source.service_account and _account(found) != source.service_account:
            raise CommandError(
                f"from: {found.name} runs as service account {_account(found)}, not {source.service_account}"
            )
        return found
    return _first(source, names.every)


def _first(source: Source, every: Iterable[Workload]) -> Workload:
    """The first workload of a namespace, of a service account there."""
    for one in every:
        account = source.service_account in ("", _account(one))
        if account and source.namespace in ("", one.pod.namespace) and not one.router:
            return one
    wanted = f"service account {source.service_account!r}" if source.service_account else "pod"
    home = f" in namespace {source.namespace!r}" if source.namespace else ""
    raise CommandError(f"from: no workload with {wanted}{home}")


def _account(one: Workload) -> str:
    return one.pod.identity.rpartition("/")[2]
