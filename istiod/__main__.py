"""The program ``istiod``: reads flags once, builds the parts (app) and runs them until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from istiod import app, features
from istiod.features import Features
from istiod.settings import Settings
from wire import names


def parser() -> argparse.ArgumentParser:
    """Istio's flag names where Istio has the flag (pilot-discovery)."""
    top = argparse.ArgumentParser(prog="istiod", description="Istio's control plane driving stock Envoy.")
    commands = top.add_subparsers(dest="command", required=True)
    discovery = commands.add_parser("discovery", help="serve configuration to proxies")
    add = discovery.add_argument
    add("--configDir", action="append", default=[], metavar="DIR", help="folder of YAML; may stand several times")
    add("--grpcAddr", default="", metavar="HOST:PORT", help="plaintext xDS, on loopback only (Istio: 15010)")
    add("--mtlsAddr", default="", metavar="HOST:PORT", help="xDS over mTLS (15011)")
    add("--secureGRPCAddr", default="", metavar="HOST:PORT", help="certificate service, TLS and token (15012)")
    add("--monitoringAddr", default="", metavar="HOST:PORT", help="readiness and debug pages (15014)")
    add("--caDir", default="", metavar="DIR", help="where the root's key and certificate are kept")
    add("--tokenKey", default="", metavar="FILE", help="public key of the signer of workload tokens, PEM")
    add("--trustDomain", default=names.DEFAULT_TRUST_DOMAIN, metavar="NAME")
    return top


def settings_of(arguments: argparse.Namespace, chosen: Features | None = None) -> Settings:
    """The frozen settings that the flags and the feature variables say."""
    return Settings(
        config_dirs=tuple(arguments.configDir),
        grpc_address=arguments.grpcAddr,
        mtls_address=arguments.mtlsAddr,
        ca_address=arguments.secureGRPCAddr,
        monitoring_address=arguments.monitoringAddr,
        ca_dir=arguments.caDir,
        token_key=arguments.tokenKey,
        trust_domain=arguments.trustDomain,
        features=chosen or Features(),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 after SIGTERM or SIGINT, 1 with one line on stderr where the settings can't work."""
    chosen, problems = features.read(os.environ)
    for problem in problems:
        app.say(f"istiod: {problem}")
    settings = settings_of(parser().parse_args(argv), chosen)
    try:
        asyncio.run(app.run(settings))
    except app.SettingsError as error:
        print(f"istiod: {error}", file=sys.stderr)  # noqa: T201 (a program's last word)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
