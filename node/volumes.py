"""A pod's volumes as folders of the host, and what each container sees of them."""

from __future__ import annotations

import os
import pathlib
import shutil

from node.launcher import Bind
from node.objects import Raw
from node.podspec import Facts, Mount, Volume, volumes


class Volumes:
    """The folders of one pod's volumes."""

    def __init__(self, folder: pathlib.Path, group: int | None) -> None:
        """Keep them below ``folder``; ``group`` (the pod's fsGroup) owns them."""
        self._folder = folder
        self._group = group
        self._known: dict[str, Volume] = {}

    def prepare(self, pod: Raw, facts: Facts) -> str:
        """Make the folders and write their files, also again with new content; the first thing missing, or ""."""
        wanted = volumes(pod, facts)
        problem = next((v.problem for v in wanted.values() if v.problem), "")
        if not problem:
            for volume in wanted.values():
                if self._known.get(volume.name) != volume:
                    self._write(volume)
            self._known = wanted
        return problem

    def _path(self, volume: Volume) -> pathlib.Path:
        return pathlib.Path(volume.host_path) if volume.host_path else self._folder / volume.name

    def _write(self, volume: Volume) -> None:
        """Make the volume's folder; each file is replaced atomically."""
        path = self._path(volume)
        if volume.host_path:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        if self._group is not None:
            os.chown(path, -1, self._group)
            path.chmod(0o2777)
        for name, text in volume.files.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            fresh = file.with_name(f".{file.name}.new")
            fresh.write_text(text)
            fresh.chmod(0o644)
            fresh.replace(file)
        before = self._known.get(volume.name)
        for name in set(before.files if before else ()) - set(volume.files):
            (path / name).unlink(missing_ok=True)

    def bind(self, mount: Mount) -> Bind | None:
        """The mount as a path of the host; None where the pod has no such volume."""
        volume = self._known.get(mount.volume)
        if volume is None:
            return None
        source = self._path(volume)
        if mount.sub_path:
            source /= mount.sub_path
            if not source.exists():
                source.mkdir(parents=True)
                source.chmod(0o777)
        return Bind(source=str(source), target=mount.target, read_only=mount.read_only)

    def remove(self) -> None:
        """Remove the folders; those of the host stay."""
        shutil.rmtree(self._folder, ignore_errors=True)
