from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crds.key import NETWORKING, ConfigKey
from istiod.ads.quarantine import Refused, Rejection
from istiod.config import resource
from istiod.config.origin import Origin
from istiod.config.resource import Resource
from istiod.lastgood import record
from istiod.lastgood.record import MalformedRecordError, Record
from tests.ads import made
from wire import names

FILTER = Origin(key=ConfigKey(NETWORKING, "EnvoyFilter", "shop", "odd"), field="spec.configPatches")


def sample(good: Resource | None = None, *, identity: str = "shop", version: str = "2") -> Record:
    name, kind = ("l1", names.LISTENER) if good is None else (good.name, good.type_url)
    stub = resource.make(name, kind, b"", origin=FILTER, version=version)
    rejection = Rejection(resource=stub, error="no such filter", proxies=("web-1.shop",), origins=(FILTER,))
    refused = Refused(identity=identity, rejection=rejection, instead=good)
    return Record(refused=refused, origins=(FILTER,), marks=("abc",), at=17.0)


def said(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(raw))
    return found


@pytest.mark.parametrize(
    "good",
    [
        None,
        made.listener("l1", 80, "r1"),
        resource.make("l1", names.LISTENER, b"\x0a\x02l1", origin=FILTER, version="of parts"),
        resource.make("own", names.EXTENSION, b"\x0a\x03own", origin=FILTER),
        resource.make(names.BOOTSTRAP_PATCHES, names.BOOTSTRAP, b"", origin=FILTER),
    ],
    ids=["nothing instead", "a listener", "a composite", "an extension configuration", "patches of the bootstrap"],
)
def test_a_record_comes_back_as_it_was(good: Resource | None) -> None:
    wrote = sample(good)
    read = record.unpack(record.pack(wrote))
    assert (read.origins, read.marks, read.at, read.name) == (wrote.origins, wrote.marks, 17.0, wrote.name)
    assert read.refused.identity == "shop"
    assert read.refused.rejection.error == "no such filter"
    assert read.refused.rejection.proxies == ("web-1.shop",)
    back = read.refused.instead
    assert (back is None) == (good is None)
    if back is not None and good is not None:
        assert (back.any_frame, back.delta_frame) == (good.any_frame, good.delta_frame)
        assert (back.version, back.refs, back.origin) == (good.version, good.refs, good.origin)


def test_a_name_is_of_one_identity_and_version() -> None:
    wrote = [sample(identity=who, version=version) for who in ("shop", "bank") for version in "12"]
    assert len({each.name for each in wrote}) == 4


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("identity", "type", "name", "version", "error", "proxies", "origins", "marks", "at", "good", "withheld")


@given(field=st.sampled_from(FIELDS), value=VALUES)
@example(field="at", value="soon")
@example(field="at", value=10**400)
@example(field="good", value={"version": "1", "body": "", "refs": [], "origin": None})
@example(field="type", value=names.SECRET)
@example(field="marks", value=["one", "too many"])
@example(field="name", value="another")
@example(field="error", value="x" * 10_000)
def test_whatever_is_in_a_field_it_is_a_record_or_malformed(field: str, value: object) -> None:
    given_ = {**said(record.pack(sample(made.listener("l1", 80, "r1")))), field: value}
    try:
        found = record.unpack(zlib.compress(json.dumps(given_).encode()))
    except MalformedRecordError:
        return
    record.unpack(record.pack(found))


@given(st.binary(max_size=200))
@example(zlib.compress(b"[" * 100_000))
@example(zlib.compress(b'{"record": 2}'))
@example(zlib.compress(b"[]"))
@example(zlib.compress(b"\xff"))
@example(record.pack(sample())[:-3])
@example(record.pack(sample()) + b"more")
@example(b"")
def test_bytes_that_are_no_record_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        record.unpack(raw)


def test_what_unpacks_to_more_than_any_record_is_not_unpacked() -> None:
    with pytest.raises(MalformedRecordError, match="too long"):
        record.unpack(zlib.compress(b" " * (record.MOST_UNPACKED + 1)))


@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a\x02l2", b""], ids=["no listener", "of another name", "nameless"])
def test_a_last_good_version_is_what_its_name_says(body: bytes) -> None:
    given_ = said(record.pack(sample(made.listener("l1", 80, "r1"))))
    given_["good"]["body"] = base64.b64encode(body).decode()
    with pytest.raises(MalformedRecordError):
        record.unpack(zlib.compress(json.dumps(given_).encode()))
