"""Who may read Secrets, asked of a real API server, one that is gone, and one that refuses (SEC63)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from crds.diagnostic import Diagnostic, Severity
from crds.key import NETWORKING, ConfigKey
from istiod.config.store import ConfigStore
from istiod.kube import secret_rights
from istiod.kube.client import KubernetesClient
from istiod.kube.secret_rights import KEPT, SecretRights
from tests.kube.faults import FaultProxy, plural
from tests.kube.following import until

GATEWAY = ConfigKey(NETWORKING, "Gateway", "default", "gw")
RULE = ConfigKey(NETWORKING, "DestinationRule", "default", "rule")
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/{}"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"allowed": True}, True),
        ({"allowed": False}, False),
        ({"allowed": False, "denied": True, "evaluationError": "x"}, False),
        ({"allowed": True, "denied": True}, False),
        ({"allowed": True, "evaluationError": "another authorizer failed"}, True),
        ({"allowed": False, "evaluationError": "x"}, None),
        ({"allowed": "true"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_only_a_clear_answer_is_one(status: object, *, said: bool | None) -> None:
    assert secret_rights.verdict({"status": status}) is said


def test_what_is_no_object_is_no_answer() -> None:
    assert secret_rights.verdict("yes") is None


class Asked:
    """The asker, what the store says, and what users are told."""

    def __init__(self, client: KubernetesClient) -> None:
        self.changes = 0
        self.store = ConfigStore(self._changed, secret_readers=frozenset())
        self.findings: tuple[Diagnostic, ...] = ()
        self.ahead = 0.0
        self.rights = SecretRights(client, self.store.put_secret_readers, self._report, self._now)

    def _now(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead

    def _changed(self, _: ConfigKey) -> None:
        self.changes += 1

    def _report(self, found: tuple[Diagnostic, ...]) -> None:
        self.findings = found

    @property
    def readers(self) -> object:
        return self.store.snapshot().secret_readers

    def counted(self) -> dict[str, float]:
        (family,) = self.rights.families()
        return {sample.labels["answer"]: sample.value for sample in family.samples}

    async def pass_time(self, seconds: float) -> None:
        """The clock jumps; the asker looks at it now."""
        self.ahead += seconds
        self.rights._rounds.wake()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def asking(client: KubernetesClient) -> AsyncIterator[Asked]:
    asked = Asked(client)
    task = asyncio.create_task(asked.rights.run())
    try:
        yield asked
        assert not task.done(), task.result()
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def bind(client: KubernetesClient, namespace: str, subject: dict[str, Any]) -> str:
    """Let somebody list Secrets of a namespace; the path of the binding."""
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}
    await client.request("post", ROLES.format(namespace, "roles"), {"metadata": {"name": "gw"}, "rules": [rule]})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "gw"}
    body = {"metadata": {"name": "gw"}, "roleRef": role, "subjects": [subject]}
    await client.request("post", ROLES.format(namespace, "rolebindings"), body)
    return ROLES.format(namespace, "rolebindings") + "/gw"


@pytest.mark.apiserver
async def test_a_right_counts_when_it_is_given_and_no_more_when_it_is_taken(
    client: KubernetesClient, namespace: str
) -> None:
    account = (namespace, "gw")
    async with asking(client) as asked:
        asked.rights.want({account: (GATEWAY, RULE)})
        await asked.rights.settled(10)
        await until(lambda: asked.findings, "it is told")
        assert asked.readers == frozenset()
        assert [(f.code.value, f.severity, f.key, f.field) for f in asked.findings] == [
            ("M0125", Severity.ERROR, GATEWAY, "spec.selector"),
            ("M0125", Severity.ERROR, RULE, "spec.workloadSelector"),
        ]
        binding = await bind(client, namespace, {"kind": "ServiceAccount", "name": "gw", "namespace": namespace})

        async def until_said(readers: frozenset[tuple[str, str]]) -> None:
            for _ in range(100):  # the authorizer hears of a binding through a watch of its own
                await asked.pass_time(60)
                await asyncio.sleep(0.1)
                if asked.readers == readers:
                    return
            raise AssertionError(asked.readers)

        await until_said(frozenset({account}))
        assert asked.findings == ()
        await client.request("delete", binding)
        await until_said(frozenset())
        assert asked.changes == 2
        asked.rights.want({})
        assert asked.findings == ()


@pytest.mark.apiserver
async def test_a_right_of_all_accounts_of_the_namespace_counts(client: KubernetesClient, namespace: str) -> None:
    group = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": f"system:serviceaccounts:{namespace}"}
    await bind(client, namespace, group)
    async with asking(client) as asked:
        asked.rights.want({(namespace, "gw"): (GATEWAY,), ("kube-system", "gw"): (GATEWAY,)})
        for _ in range(100):
            if asked.readers == frozenset({(namespace, "gw")}):
                return
            await asked.pass_time(60)
            await asyncio.sleep(0.1)
    raise AssertionError(asked.readers)


def out_of_order(request: web.Request) -> web.Response | None:
    return web.Response(status=503) if plural(request) == "subjectaccessreviews" else None


def forbidden(_: web.Request) -> web.Response | None:
    return web.json_response({"kind": "Status", "code": 403, "message": "istiod may not"}, status=403)


@pytest.mark.apiserver
@pytest.mark.parametrize("refuse", [out_of_order, forbidden], ids=lambda one: one.__name__)
async def test_while_nobody_answers_the_last_answer_holds_for_a_day(
    client: KubernetesClient,
    proxy: FaultProxy,
    connect: Callable[[str], KubernetesClient],
    namespace: str,
    refuse: Callable[[web.Request], web.Response | None],
) -> None:
    await bind(client, namespace, {"kind": "ServiceAccount", "name": "gw", "namespace": namespace})
    known, late = (namespace, "gw"), (namespace, "late")
    async with asking(connect(proxy.kubeconfig)) as asked:
        asked.rights.want({known: (GATEWAY,)})
        for _ in range(100):
            if asked.readers == frozenset({known}):
                break
            await asked.pass_time(60)
            await asyncio.sleep(0.1)
        proxy.refuse = refuse
        asked.rights.want({known: (GATEWAY,), late: (GATEWAY,)})
        await asked.pass_time(60)
        await until(lambda: len(asked.findings) == 2, "both are told")
        severities = {f.message.partition(f"{namespace}/")[2].partition(" ")[0]: f.severity for f in asked.findings}
        assert severities == {"gw": Severity.WARNING, "late": Severity.ERROR}
        assert asked.readers == frozenset({known})
        await asked.pass_time(KEPT)
        await until(lambda: asked.readers == frozenset(), "a day later it does not")
        proxy.refuse = lambda _: None
        await asked.pass_time(60)
        await until(lambda: asked.readers == frozenset({known}), "an answer again")
        assert asked.counted()["failed"] >= 2
