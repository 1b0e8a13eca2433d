"""The program ``istiod``: reads flags and environment once, builds the parts (app) and runs them until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from crds.checks import values
from istiod import app, features
from istiod.debug import scopes
from istiod.features import Features
from istiod.settings import DEFAULT_CA_DIR, DEFAULT_REVISION, ClusterSettings, Settings
from istiod.supervision import SettingsError, say
from wire import names, spiffe

_OF_FOLDERS: Final = {
    "caDir": "the CA is in the Secret istio-ca-secret, or cacerts",
    "stateDir": "it is kept in the Secret istio-last-good",
    "tokenKey": "the API server judges tokens",
    "trustDomain": "set trustDomain in the mesh's ConfigMap",  # proxies would be told another than the CA issues
}
"""Flags of a mesh without Kubernetes, and what stands in their place with it."""


def parser() -> argparse.ArgumentParser:
    """Istio's flag names where Istio has the flag (pilot-discovery)."""
    about = "Istio's control plane driving stock Envoy."
    top = argparse.ArgumentParser(prog="istiod", description=about, allow_abbrev=False)
    commands = top.add_subparsers(dest="command", required=True)
    discovery = commands.add_parser(
        "discovery",
        help="serve configuration to proxies",
        description="Serve configuration to proxies: from a Kubernetes cluster, or from folders of YAML (--configDir), "
        "where nothing is listened on that no flag names. An empty address leaves a server off.",
        allow_abbrev=False,
    )
    add = discovery.add_argument
    add("--configDir", action="append", default=[], metavar="DIR", help="folder of YAML; may stand several times")
    add(
        "--kubeconfig", metavar="FILE", help="how to reach the cluster; else KUBECONFIG, else the pod's service account"
    )
    add("--grpcAddr", default="", metavar="HOST:PORT", help="plaintext xDS, on loopback only (Istio: 15010)")
    add("--mtlsAddr", metavar="HOST:PORT", help="another address of the same (cluster: :15011)")
    secure = "xDS and certificates, for clients with a certificate or a token (cluster: :15012)"
    add("--secureGRPCAddr", metavar="HOST:PORT", help=secure)
    add("--httpAddr", metavar="HOST:PORT", help="readiness and debug pages (cluster: :8080)")
    add("--monitoringAddr", metavar="HOST:PORT", help="the same (cluster: :15014)")
    add("--httpsAddr", metavar="HOST:PORT", help="webhooks (cluster: :15017)")
    add("--caDir", default="", metavar="DIR", help="where the root's key and certificate are kept (not in a cluster)")
    add("--stateDir", default="", metavar="DIR", help="where is kept what Envoy refuses (not in a cluster)")
    add("--tokenKey", default="", metavar="FILE", help="public key of the signer of tokens, PEM (not in a cluster)")
    add("--domain", default=names.DEFAULT_DNS_DOMAIN, metavar="NAME", help="the cluster's DNS domain")
    add("--trustDomain", metavar="NAME", help="not in a cluster: there the mesh's ConfigMap says it")
    add("--log_output_level", default="default:info", metavar="[SCOPE:]LEVEL,...", help="what is logged (debug/scopej)")
    add("--clusterID", metavar="NAME", help="the cluster's name: Kubernetes only; else CLUSTER_ID")
    return top


def settings_of(
    arguments: argparse.Namespace, chosen: Features | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """The frozen settings that the flags, the feature variables and the environment say."""
    cluster = not arguments.configDir

    def address(said: str | None, port: str) -> str:
        return said if said is not None else port if cluster else ""

    return Settings(
        config_dirs=tuple(arguments.configDir),
        grpc_address=arguments.grpcAddr,
        mtls_address=address(arguments.mtlsAddr, ":15011"),
        ca_address=address(arguments.secureGRPCAddr, ":15012"),
        monitoring_address=address(arguments.monitoringAddr, ":15014"),
        http_address=address(arguments.httpAddr, ":8080"),
        https_address=address(arguments.httpsAddr, ":15017"),
        ca_dir=arguments.caDir,
        token_key=arguments.tokenKey,
        state_dir=arguments.stateDir,
        trust_domain=arguments.trustDomain or names.DEFAULT_TRUST_DOMAIN,
        features=replace(chosen or Features(), dns_domain=arguments.domain),
        cluster=cluster_settings(arguments.kubeconfig, environment or {}),
    )


def cluster_settings(kubeconfig: str | None, environment: Mapping[str, str]) -> ClusterSettings:
    """What Istio's chart tells istiod through its environment."""
    said = environment.get
    return ClusterSettings(
        kubeconfig=kubeconfig or said("KUBECONFIG", ""),
        pod_name=said("POD_NAME") or said("HOSTNAME") or "istiod",
        namespace=said("POD_NAMESPACE") or names.ROOT_NAMESPACE,
        revision=said("REVISION") or DEFAULT_REVISION,
        injection_webhook=said("INJECTION_WEBHOOK_CONFIG_NAME", ""),
        validation_webhook=said("VALIDATION_WEBHOOK_CONFIG_NAME", ""),
        custom_host=said("ISTIOD_CUSTOM_HOST", ""),
        ca_dir=said("ROOT_CA_DIR") or DEFAULT_CA_DIR,
        shared=said("SHARED_MESH_CONFIG", ""),
    )


def require_cluster(name: str) -> None:
    """Refuse the one name of Istio's that is fixed here.

    Raises:
        SettingsError: it is another.
    """
    if name != names.CLUSTER_ID:
        raise SettingsError(f"--clusterID (or CLUSTER_ID) {name}: only {names.CLUSTER_ID} is supported yet")


def require_source(arguments: argparse.Namespace) -> None:
    """Refuse flags of the other source of objects: they would have no effect.

    Raises:
        SettingsError: there is one.
    """
    if "" in arguments.configDir:
        raise SettingsError("--configDir '' names no folder")
    if arguments.configDir and arguments.kubeconfig:
        raise SettingsError("--kubeconfig is not for --configDir: objects come from one of both")
    for name, instead in _OF_FOLDERS.items():
        if getattr(arguments, name) and not arguments.configDir:
            raise SettingsError(f"--{name} is for --configDir; in a cluster {instead}")


def log(said: str) -> None:
    """Log as the flag says.

    Raises:
        SettingsError: it says nothing that could be.
    """
    try:
        for unknown in scopes.begin(said):
            say(f"istiod: --log_output_level: there is no scope {unknown!r} here")
    except scopes.LevelError as error:
        raise SettingsError(f"--log_output_level {said}: {error}") from error


def require_names(arguments: argparse.Namespace) -> None:
    """Refuse names that are none: identities and hosts are made of them, which nobody could read.

    Raises:
        SettingsError: there is one.
    """
    if problem := values.domain(arguments.domain):
        raise SettingsError(f"--domain: {problem}")
    if arguments.trustDomain:
        try:
            spiffe.parse(str(spiffe.Identity(arguments.trustDomain, "any", "any")))
        except ValueError as error:
            raise SettingsError(f"--trustDomain {arguments.trustDomain!r} is no name of a trust domain") from error


def keep_keys() -> None:
    """Leave no core file behind: memory holds the CA's key and tokens (hostile-input SEC75)."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 after SIGTERM or SIGINT, 1 with one line on stderr where the settings can't work."""
    keep_keys()
    chosen, problems = features.read(os.environ)
    for problem in problems:
        say(f"istiod: {problem}")
    arguments = parser().parse_args(argv)
    settings = settings_of(arguments, chosen, os.environ)
    try:
        log(arguments.log_output_level)
        require_cluster(arguments.clusterID or os.environ.get("CLUSTER_ID") or names.CLUSTER_ID)
        require_source(arguments)
        require_names(arguments)
        asyncio.run(app.run(settings))
    except SettingsError as error:
        say(f"istiod: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
