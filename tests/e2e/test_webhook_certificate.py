"""While the certificate of the webhooks is renewed, again and again, every pod and every object is admitted (FT43).

Its life is shortened to seconds, and connections are cut, so that the API server has to accept each new one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import yaml

from e2e.harness.controlplane import control_plane
from e2e.harness.ports import free_ports
from e2e.harness.process import running, wait
from tests.e2e.relay import relay
from tests.e2e.test_webhook_faults import is_ready
from tests.e2e.test_webhooks import ROOT, RULE, SPACE, pod, rendered

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120, func_only=True)]
SHOP = "shop"
LIFE = 6
"""Seconds of a certificate; after half of it there is another."""
LIVES = 3
PROGRAM = f"""
import datetime, sys
from istiod.ca import authority
authority.SERVING_TTL = datetime.timedelta(seconds={LIFE})
from istiod.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_every_admission_succeeds_while_the_certificate_is_rotated(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with control_plane() as cluster, relay(port) as between:
        cluster.kubectl("apply", "-f", str(ROOT / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "-l", "app=istio-pilot", "--timeout=60s")
        for name in (SPACE, SHOP):
            cluster.kubectl("create", "namespace", name)
            cluster.kubectl("wait", "serviceaccount/default", "-n", name, "--for=create", "--timeout=30s")
        cluster.kubectl("label", "namespace", SHOP, "istio-injection=enabled")
        cluster.apply(yaml.safe_dump_all(rendered(cluster, f"https://localhost:{between.port}")), SPACE)
        pages, secure, mtls = free_ports(3)
        command = [sys.executable, "-c", PROGRAM, "discovery", "--kubeconfig", str(cluster.kubeconfig)]
        command += [f"--httpsAddr=127.0.0.1:{port}", f"--httpAddr=127.0.0.1:{pages}", "--monitoringAddr="]
        command += [f"--secureGRPCAddr=127.0.0.1:{secure}", f"--mtlsAddr=127.0.0.1:{mtls}"]
        given = {"POD_NAMESPACE": SPACE, "POD_NAME": "istiod-0"}
        with running("istiod", command, tmp_path / "log", given) as program:
            wait("istiod ready", lambda: is_ready(pages), [program], 90)
            asked = f"{pod('web')}\n---\n{RULE.format(name='web', weight=1)}"
            end, failed, count = time.monotonic() + LIFE * LIVES, [], 0
            while time.monotonic() < end:
                between.cut()
                done = cluster.call("kubectl", "create", "-n", SHOP, "--dry-run=server", "-f", "-", stdin=asked)
                failed += [done.stderr] if done.returncode else []
                count += 1
    assert failed == []
    assert count > LIVES
