"""Which functions of the product decode bytes or texts: those that call a decoder of a library, found in the source.

Also those that decode by hand and are named here. Each has to be reached by a target's seeds, or to have a reason.
"""

from __future__ import annotations

import ast
import functools
import pathlib
from collections.abc import Iterator, Mapping

ROOT = pathlib.Path(__file__).parents[2]
PROGRAMS = ("crds", "wire", "istiod", "webhook", "agent", "istioctl", "node")
Place = tuple[str, str]
"""Path of a file, and the qualified name of a function in it."""
CALLS = frozenset(
    (
        *("json.load", "json.loads", "yaml.load", "yaml.safe_load", "text.load", "lines.load", "pickle.loads"),
        *("json_format.Parse", "json_format.ParseDict", "json_format.MessageToDict", "duration.parse", "spiffe.parse"),
        *("struct.unpack", "struct.unpack_from", "struct.iter_unpack", "int.from_bytes", "jwt.decode"),
        *("base64.b64decode", "base64.urlsafe_b64decode", "jwt.get_unverified_header", "jwt.PyJWK", "cel.parse"),
        *("urllib.parse.urlsplit", "urlsplit", "urllib.parse.parse_qs", "urllib.parse.parse_qsl", "urljoin"),
        *("ipaddress.ip_address", "ipaddress.ip_network", "ipaddress.ip_interface", "ip_address", "ip_network"),
        *("dns.message.from_wire", "dump.parse", "nodes.parse", "node.parse", "adapter.validate_python", "re2.compile"),
    )
)
"""Calls that fail for some texts, as they are written where they are called."""
METHODS = frozenset(("FromString", "ParseFromString", "MergeFromString", "model_validate", "unpack_from"))
PREFIXES = ("x509.load_", "serialization.load_")
BY_HAND: frozenset[Place] = frozenset(
    (
        ("agent/httpwire.py", "read_head"),
        ("agent/httpwire.py", "_status"),
        ("agent/httpwire.py", "_body"),
        ("agent/httpwire.py", "_chunk_size"),
        ("agent/scrape.py", "plain"),
        ("agent/scrape.py", "_limit"),
        ("agent/dns/resolvconf.py", "read"),
        ("agent/iptables/flags.py", "read"),
        ("agent/iptables/state.py", "parse"),
        ("crds/checks/cel.py", "parse"),
        ("crds/duration.py", "parse"),
        ("crds/text.py", "load"),
        ("istioctl/explain/log_line.py", "_of_text"),
        ("istiod/envoy/blame.py", "plain"),
        ("istiod/explain/question.py", "headers"),
        ("istiod/grpcserver/http2.py", "Http2Connection._parse"),
        ("istiod/grpcserver/messages.py", "Assembler.feed"),
        ("istiod/grpcserver/request.py", "read"),
        ("istiod/ads/request.py", "_plain_ack"),
        ("istiod/meshpage/server.py", "MeshPage._explain"),
        ("webhook/mutation.py", "with_path"),
        ("wire/decimal.py", "number"),
        ("wire/node.py", "parse"),
        ("wire/spiffe.py", "parse"),
    )
)


@functools.cache
def found() -> frozenset[Place]:
    """All functions that decode something."""
    files = (path for program in PROGRAMS for path in (ROOT / program).rglob("*.py"))
    return frozenset(place for path in files for place in _decoding(path))


def _decoding(path: pathlib.Path) -> Iterator[Place]:
    name = str(path.relative_to(ROOT))
    for function, tree in _functions(ast.parse(path.read_text()), ()):
        if any(_decodes(each) for each in _own(tree)):
            yield name, function


def _functions(tree: ast.AST, outer: tuple[str, ...]) -> Iterator[tuple[str, ast.AST]]:
    """Functions by the name that a traceback of Python gives them."""
    for each in ast.iter_child_nodes(tree):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield ".".join((*outer, each.name)), each
            yield from _functions(each, (*outer, each.name, "<locals>"))
        else:
            yield from _functions(each, (*outer, each.name) if isinstance(each, ast.ClassDef) else outer)


def _own(tree: ast.AST) -> Iterator[ast.AST]:
    """What stands in a function itself, and not in one within it."""
    for each in ast.iter_child_nodes(tree):
        if not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield each
            yield from _own(each)


def _decodes(part: ast.AST) -> bool:
    if not isinstance(part, ast.Call):
        return False
    said = ast.unparse(part.func)
    return said in CALLS or said.rpartition(".")[2] in METHODS or said.startswith(PREFIXES)


_OURS = "what istiod itself has compiled, from objects that other targets give it"
_DUMP = "a dump, read by dump.parse as for the commands that are targets"
_SOCKET = "an address that the kernel or the transport gives"
_MACHINE = "what a program of the machine says to root"
_TEST = "answers of the programs that istioctl test itself has started for its own files"
_NODE = "the node of a test cluster, which talks to its own processes"
_CHECKED = "only what was checked as the object was read"
_TRUSTED = "files of the operator's own, which he starts the program with"
_TRANSPORT = "a certificate that the TLS library has verified, as in the target client-certificate"
REASONS: Mapping[str, str] = {
    "agent/__main__.py": _TRUSTED,
    "agent/debug.py": "a table that the target name-table reads, as the agent has written it",
    "agent/dns/tables.py:_request": "what the agent says of itself",
    "agent/dns/tables.py:_stream": "a stream of istiod's; the target name-table reads what it gives",
    "agent/iptables/probe.py": _SOCKET,
    "agent/iptables/tools.py": _MACHINE,
    "agent/patches.py:_request": "what the agent says of itself",
    "agent/sds/rotation.py": "a chain that obtain has read, as in the target ca-answer",
    "agent/sds/addresses.py": _TRUSTED,
    "agent/status.py": _SOCKET,
    "crds/in_parts.py": "as the target kubernetes, for objects too large for a fuzzer",
    "istioctl/admin.py": "a page of istiod, with every error caught",
    "istioctl/cluster.py:Cluster._asked": "an API server that the user trusts; what goes wrong is caught there",
    "istioctl/describe.py": _DUMP,
    "istioctl/diff/leaves.py": _OURS,
    "istioctl/envoy_stats.py": "a page of Envoy, with every error caught",
    "istioctl/explain/asking.py": _DUMP,
    "istioctl/explain/live.py": _DUMP,
    "istioctl/metrics.py": "an answer of Prometheus, with every error caught",
    "istioctl/objects.py:_documents": "text.load as in the target text, with the same errors caught",
    "istioctl/proxy_status.py": _DUMP,
    "istioctl/tag/command.py:_generate": "what the command itself has just made",
    "istioctl/tag/documents.py": "a URL that the API server has checked",
    "istioctl/testing/envoys": _TEST,
    "istioctl/wait.py": "a page of istiod, with every error caught",
    "istioctl/views/injection.py": "an annotation, with every error caught",
    "istioctl/views/pods.py": "an annotation, with every error caught",
    "istiod/__main__.py:require_names": _TRUSTED,
    "istiod/ads/auth.py:require_loopback": _TRUSTED,
    "istiod/ads/holders.py": _OURS,
    "istiod/analysis": "an annotation or a URL of an object, with every error caught, as in the target analyze",
    "istiod/gateway_names.py:look_up": "an address that the C library's resolver gives",
    "istiod/ca/authority.py:Authority.ends": "a CA that Authority() has taken, as in the target plugged-in-ca",
    "istiod/ca/authority.py:_general_name": _TRUSTED,
    "istiod/ca/serving.py": "a certificate that this CA has just signed",
    "istiod/ca/tokens.py:load_or_create_key": _TRUSTED,
    "istiod/debug/dumps.py": _OURS,
    "istiod/debug/scopes.py": "a few bytes that come from within the pod, with every error caught",
    "istiod/envoy/older.py": _OURS,
    "istiod/envoy/protection.py": _OURS,
    "istiod/explain/matching.py": _CHECKED,
    "istiod/grpcserver/channel.py": _SOCKET,
    "istiod/grpcserver/connection.py": _TRANSPORT,
    "istiod/jwks/fetch.py:Fetcher._get": "redirects: _require judges each, as in the target issuer",
    "istiod/kube/records.py": "what istiod itself has written into objects that only it may write",
    "istiod/kube/secrets.py": "an API server's own Secret, with every error caught",
    "istiod/kube/webhooks.py": "a URL that the API server has checked",
    "istiod/lastgood": "what istiod itself has written into objects or files that only it may write",
    "istiod/mesh/claims.py": "the identity of a peer, which the transport has proved",
    "istiod/mesh/credentials.py:_check_crl": "as _certificates, with every error caught",
    "istiod/mesh/loggers.py": _CHECKED,
    "istiod/mesh/request_authentication.py": _CHECKED,
    "istiod/meshpage/server.py:_by_address": _SOCKET,
    "istiod/pages.py": "text.load as in the target text, with its error caught",
    "istiod/releases.py": _TRANSPORT,
    "node": _NODE,
    "webhook/builtin.py": "an annotation, with every error caught",
    "webhook/calls.py": "the pipe between the webhook and its own child process",
    "webhook/worker.py": "the pipe between the webhook and its own child process",
}
"""Why a function, a file's or a folder's functions need no target of their own, though they decode something."""


def reason(place: Place) -> str:
    """The entry of REASONS for a function, "" where there is none."""
    path, function = place
    folders = (str(each) for each in pathlib.PurePath(path).parents)
    return next((name for name in (f"{path}:{function}", path, *folders) if name in REASONS), "")
