"""Writes type stubs for the protobuf classes of xds-protos, which ships none.

Without them mypy sees every Envoy message as Any and a misspelled field passes. The stubs come from the package's own
descriptors, so they can't disagree with what runs.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool

ROOTS = ("envoy", "xds", "udpa", "validate", "google.rpc", "google.api")


def import_all() -> set[str]:
    """Import every message module below ROOTS; gives their proto file names."""
    names = set()
    for root in ROOTS:
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, root + "."):
            if not module.name.endswith("_pb2"):
                continue
            try:
                names.add(importlib.import_module(module.name).DESCRIPTOR.name)
            except (ImportError, TypeError):  # a module that clashes with another's types is not needed
                continue
    return names


def closure(names: set[str]) -> descriptor_pb2.FileDescriptorSet:
    """The named files and all that they import, dependencies first."""
    pool, seen, out = descriptor_pool.Default(), set(), descriptor_pb2.FileDescriptorSet()

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        file = pool.FindFileByName(name)
        for dependency in file.dependencies:
            visit(dependency.name)
        file.CopyToProto(out.file.add())

    for name in sorted(names):
        visit(name)
    return out


def main() -> int:
    """Write the stubs into the folder given as the only argument."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    files = closure(import_all())
    wanted = [
        f.name
        for f in files.file
        if f.name.split("/")[0] in {"envoy", "xds", "udpa", "validate"} or f.name.startswith("google/rpc")
    ]
    with tempfile.NamedTemporaryFile(suffix=".fds") as fds:
        fds.write(files.SerializeToString())
        fds.flush()
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={fds.name}", f"--pyi_out={target}"]
        subprocess.run([*command, *wanted], check=True)
    print(f"{len(wanted)} stub files in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
