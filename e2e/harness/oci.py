"""OCI image archives made of folders, without a registry and without a container engine.

A layer is a tar whose bytes depend on nothing but names, contents and modes; an archive is what ``ctr images import``,
``docker load`` and ``kind load image-archive`` read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_TYPE: Final = "application/vnd.oci.image."


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A tar on disk. ``digest`` is ``sha256:HEX`` of it."""

    file: Path
    digest: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.file.stat().st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image: its full name with tag, its layers from the lowest up, and its settings (``Entrypoint``, ``User``)."""

    name: str
    layers: tuple[Layer, ...]
    settings: Mapping[str, Any]


def layer(root: Path, file: Path) -> Layer:
    """Write the contents of a folder as a layer; all files belong to root, times are 0."""
    with file.open("wb") as output, tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            entry = tar.gettarinfo(path, str(path.relative_to(root)))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = 0
            if entry.isreg():
                with path.open("rb") as content:
                    tar.addfile(entry, content)
            else:
                tar.addfile(entry)
    return Layer(file=file, digest=_file_digest(file))


def archive(images: Sequence[Image], file: Path) -> None:
    """Write images into one archive; a layer that several share is in it once."""
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    blobs: dict[str, bytes] = {}
    manifests = []
    for image in images:
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": dict(image.settings),
            "rootfs": {"type": "layers", "diff_ids": [each.digest for each in image.layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _TYPE + "manifest.v1+json",
            "config": _blob(blobs, "config.v1+json", config),
            "layers": [_descriptor("layer.v1.tar", each.digest, each.size) for each in image.layers],
        }
        names = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name}
        manifests.append({**_blob(blobs, "manifest.v1+json", manifest), "annotations": names})
    with tarfile.open(file, "w") as tar:
        _add(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode())
        for digest, content in blobs.items():
            _add(tar, _path(digest), content)
        for each in {each.digest: each for image in images for each in image.layers}.values():
            with each.file.open("rb") as source:
                entry = tarfile.TarInfo(_path(each.digest))
                entry.size = each.size
                tar.addfile(entry, source)


def _blob(blobs: dict[str, bytes], kind: str, value: object) -> dict[str, Any]:
    content = json.dumps(value).encode()
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return _descriptor(kind, digest, len(content))


def _descriptor(kind: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": _TYPE + kind, "digest": digest, "size": size}


def _path(digest: str) -> str:
    return "blobs/sha256/" + digest.removeprefix("sha256:")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _file_digest(file: Path) -> str:
    with file.open("rb") as content:
        return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
