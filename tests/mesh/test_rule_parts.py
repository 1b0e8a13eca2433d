"""Header operations, retries, faults, CORS, redirects, direct responses and rewrites of one rule."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crds import virtual_service as api
from istiod.mesh import answers, cors, fault, header_operations, retries
from istiod.mesh.route import (
    ANY,
    Abort,
    Cors,
    Delay,
    DirectResponse,
    Fault,
    HeaderOperations,
    Headers,
    MatchKind,
    Redirect,
    RedirectPort,
    Retry,
    Rewrite,
    RouteMatch,
    StringMatch,
)
from istiod.mesh.settings import DEFAULT_RETRY

PREFIX = RouteMatch(path=StringMatch(kind=MatchKind.PREFIX, value="/a"))
EXACT = RouteMatch(path=StringMatch(kind=MatchKind.EXACT, value="/a"))


def test_headers_are_set_added_and_removed_in_order_of_names() -> None:
    said = api.Headers.model_validate(
        {"request": {"set": {"b": "2", "a": "1"}, "add": {"c": "3"}, "remove": ["d"]}, "response": {"remove": ["e"]}}
    )
    assert header_operations.convert(said).headers == Headers(
        request=HeaderOperations(set=(("a", "1"), ("b", "2")), add=(("c", "3"),), remove=("d",)),
        response=HeaderOperations(remove=("e",)),
    )


@pytest.mark.parametrize("name", ["Host", ":authority", "host"])
def test_setting_the_host_is_an_authority_and_no_header(name: str) -> None:
    found = header_operations.convert(api.Headers.model_validate({"request": {"set": {name: "x", ":path": "/"}}}))
    assert found.authority == "x"
    assert found.headers == Headers()


def test_an_added_host_counts_where_none_is_set_and_removing_it_has_no_effect() -> None:
    found = header_operations.convert(
        api.Headers.model_validate({"request": {"add": {"Host": "x"}, "remove": ["host"]}})
    )
    assert found == header_operations.Operations(authority="x")


def test_no_headers_change_nothing() -> None:
    assert header_operations.convert(None) == header_operations.NOTHING


def test_what_a_destination_sets_replaces_what_the_route_set_or_added() -> None:
    first = HeaderOperations(set=(("A", "route"), ("b", "route")), add=(("c", "route"), ("d", "route")), remove=("x",))
    then = HeaderOperations(set=(("a", "one"), ("c", "one")), add=(("b", "one"),), remove=("x", "y"))
    assert header_operations.join(Headers(request=first), Headers(request=then)).request == HeaderOperations(
        set=(("b", "route"), ("a", "one"), ("c", "one")), add=(("d", "route"), ("b", "one")), remove=("x", "y")
    )


def retry(**fields: object) -> Retry | None:
    return retries.convert(api.HTTPRetry.model_validate(fields), DEFAULT_RETRY)


def test_without_a_policy_the_default_holds() -> None:
    assert retries.convert(None, DEFAULT_RETRY) is DEFAULT_RETRY


def test_no_attempts_mean_no_retries() -> None:
    assert retry() is None
    assert retries.convert(None, Retry(attempts=0, retry_on="5xx")) is None


def test_attempts_alone_keep_the_default_conditions() -> None:
    assert retry(attempts=5) == Retry(attempts=5, retry_on=DEFAULT_RETRY.retry_on)


def test_status_codes_among_the_policies_stand_apart() -> None:
    found = retry(attempts=1, retryOn="gateway-error, 503,429")
    assert found == Retry(attempts=1, retry_on="gateway-error,retriable-status-codes", status_codes=(503, 429))


def test_a_number_that_is_no_status_code_is_none() -> None:
    assert retry(attempts=1, retryOn="5xx,4294967296") == Retry(attempts=1, retry_on="5xx,4294967296")


def test_asking_for_status_codes_twice_is_asking_once() -> None:
    found = retry(attempts=1, retryOn="retriable-status-codes,503,")
    assert found == Retry(attempts=1, retry_on="retriable-status-codes", status_codes=(503,))


def test_every_field_of_a_retry_is_taken() -> None:
    found = retry(
        attempts=1,
        retryOn="5xx",
        perTryTimeout="2s",
        retryRemoteLocalities=True,
        retryIgnorePreviousHosts=False,
        backoff="1s",
    )
    assert found == Retry(
        attempts=1,
        retry_on="5xx",
        per_try_timeout=timedelta(seconds=2),
        remote_localities=True,
        ignore_previous_hosts=False,
        backoff=timedelta(seconds=1),
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, None),
        ({"delay": {"percent": 10}}, None),
        ({"delay": {"percent": 10, "fixedDelay": "5s"}}, Fault(delay=Delay(fixed=timedelta(seconds=5), percent=10.0))),
        (
            {"delay": {"percentage": {"value": 0.1}, "fixedDelay": "5s"}},
            Fault(delay=Delay(fixed=timedelta(seconds=5), percent=0.1)),
        ),
        ({"abort": {"httpStatus": 418}}, Fault(abort=Abort(percent=None, http_status=418))),
        ({"abort": {"httpStatus": 418, "percent": 5}}, Fault(abort=Abort(percent=5.0, http_status=418))),
        (
            {"abort": {"percentage": {"value": 100.0}, "grpcStatus": "UNAVAILABLE"}},
            Fault(abort=Abort(percent=100.0, grpc_status=14)),
        ),
        ({"abort": {"grpcStatus": "NO_SUCH"}}, None),
        ({"abort": {}}, None),
    ],
)
def test_faults(said: dict[str, object], expected: Fault | None) -> None:
    assert fault.convert(api.HTTPFaultInjection.model_validate(said)) == expected


def test_no_fault() -> None:
    assert fault.convert(None) is None


def test_cors_policies_are_taken_whole() -> None:
    said = api.CorsPolicy.model_validate(
        {
            "allowOrigins": [{"exact": "https://a"}, {}],
            "allowMethods": ["GET"],
            "allowHeaders": ["x"],
            "exposeHeaders": ["y"],
            "maxAge": "24h",
            "allowCredentials": True,
            "unmatchedPreflights": "IGNORE",
        }
    )
    assert cors.convert(said) == Cors(
        allow_origins=(StringMatch(kind=MatchKind.EXACT, value="https://a"),),
        allow_methods=("GET",),
        allow_headers=("x",),
        expose_headers=("y",),
        max_age=timedelta(days=1),
        allow_credentials=True,
        forward_unmatched_preflights=False,
    )


def test_the_old_list_of_origins_counts_where_the_new_one_is_empty() -> None:
    found = cors.convert(api.CorsPolicy.model_validate({"allowOrigin": ["*", "https://a"]}))
    assert found == Cors(
        allow_origins=(
            StringMatch(kind=MatchKind.REGEX, value=".*"),
            StringMatch(kind=MatchKind.EXACT, value="https://a"),
        )
    )


def test_no_cors() -> None:
    assert cors.convert(None) is None


def test_redirects_are_taken_and_unknown_codes_become_301() -> None:
    said = api.HTTPRedirect.model_validate(
        {"uri": "/x", "authority": "a", "scheme": "https", "redirectCode": 307, "derivePort": "FROM_REQUEST_PORT"}
    )
    assert answers.redirect(said) == Redirect(
        path="/x", authority="a", scheme="https", code=307, derive_port=RedirectPort.REQUEST
    )
    assert answers.redirect(api.HTTPRedirect.model_validate({"prefixRewrite": "/y", "redirectCode": 305})) == Redirect(
        prefix="/y", code=301
    )


@pytest.mark.parametrize(
    ("redirect", "tls", "port"),
    [
        (Redirect(derive_port=RedirectPort.REQUEST), False, 8000),
        (Redirect(derive_port=RedirectPort.PROTOCOL_DEFAULT), False, None),
        (Redirect(port=80), False, None),
        (Redirect(port=80), True, 80),
        (Redirect(port=443, scheme="https"), False, None),
        (Redirect(port=8443, scheme="https"), False, 8443),
        (Redirect(), False, None),
    ],
)
def test_the_port_of_a_redirect(redirect: Redirect, tls: bool, port: int | None) -> None:  # noqa: FBT001 (a table's column)
    found = answers.redirect_at(redirect, 8000, tls=tls)
    assert (found.port, found.derive_port) == (port, None)


@pytest.mark.parametrize(
    ("body", "expected"), [({"string": "down"}, b"down"), ({"bytes": "aGVsbG8="}, b"hello"), (None, b"")]
)
def test_direct_responses(body: object, expected: bytes) -> None:
    said = api.HTTPDirectResponse.model_validate({"status": 503, "body": body})
    assert answers.direct_response(said) == DirectResponse(status=503, body=expected)


@pytest.mark.parametrize(
    ("said", "match", "authority", "expected"),
    [
        ({"uri": "/b"}, PREFIX, "", Rewrite(prefix="/b")),
        ({"uri": "/b"}, ANY, "", Rewrite(prefix="/b")),
        ({"uri": "/b"}, EXACT, "", Rewrite(path="/b")),
        ({"authority": "x"}, PREFIX, "y", Rewrite(authority="x")),
        ({"uriRegexRewrite": {"match": "a", "rewrite": "b"}}, PREFIX, "", Rewrite(regex=("a", "b"))),
        ({}, PREFIX, "", None),
        (None, PREFIX, "y", Rewrite(authority="y")),
    ],
)
def test_rewrites(said: object, match: RouteMatch, authority: str, expected: Rewrite | None) -> None:
    parsed = api.HTTPRewrite.model_validate(said) if said is not None else None
    assert answers.rewrite(parsed, match, authority) == expected
