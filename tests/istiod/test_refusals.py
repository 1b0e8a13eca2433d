from __future__ import annotations

from crds.diagnostic import Code
from crds.key import NETWORKING, ConfigKey
from istiod import refusals
from istiod.ads.quarantine import Rejection
from istiod.config import resource
from istiod.config.origin import Origin
from wire import names

FILTER = Origin(key=ConfigKey(NETWORKING, "EnvoyFilter", "shop", "odd"), field="spec.configPatches")


def test_owners_are_told_that_an_earlier_version_is_withheld() -> None:
    stub = resource.make("virtualInbound", names.LISTENER, b"", version="2")
    rejection = Rejection(resource=stub, error="no", proxies=("web.shop",), origins=(FILTER,), withheld=True)
    refused, withheld = refusals.told(rejection)
    assert (refused.code, refused.key, refused.field) == (Code.REJECTED_BY_ENVOY, FILTER.key, FILTER.field)
    assert (withheld.code, withheld.key) == (Code.WITHHELD, FILTER.key)
    assert withheld.message == (
        "the version of Listener virtualInbound before has other rules of access: proxies that start have neither"
    )
