"""Finished stages at an fsspec URL (s3://, gs://, a shared folder), which machines without a common disk share.

The local store stays the place of work and the cache: a stage that is not there is fetched, one that was built is sent.
The manifest goes last, so a stage is there whole or not at all; what comes back is verified like any other.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from orca.errors import InputError
from orca.manifest import MANIFEST

log = logging.getLogger(__name__)


class Mirror:
    """A folder at a URL, with the directories of finished stages.

    Args:
        url: as fsspec takes it, such as ``s3://bucket/orca``.

    Raises:
        InputError: no such protocol, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            self._files, self._root = url_to_fs(url)
        except (ValueError, ImportError) as fault:
            raise InputError(
                f"ORCA_MIRROR must be a URL that fsspec knows, such as s3://bucket/orca; got '{url}': {fault}"
            ) from fault
        self.url = url

    @classmethod
    def chosen(cls) -> Mirror | None:
        """The one that the environment's ``ORCA_MIRROR`` names."""
        url = os.environ.get("ORCA_MIRROR")
        return cls(url) if url else None

    def fetch(self, name: str, key: str, to: Path) -> bool:
        """Copies a stage into an empty folder; False where it is not there."""
        place = self._place(name, key)
        if not self._files.exists(f"{place}/{MANIFEST}"):
            return False
        log.info("%s: fetching %s from %s", name, key, self.url)
        for file in self._files.find(place):
            local = to / file.removeprefix(place).lstrip("/")
            local.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(file, str(local))
        return True

    def send(self, name: str, key: str, path: Path) -> None:
        """Copies a finished stage there, in place of what is there."""
        place = self._place(name, key)
        files = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
        for file in sorted(files, key=lambda file: file == MANIFEST):  # the manifest last
            self._files.makedirs(f"{place}/{file}".rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(path / file), f"{place}/{file}")

    def _place(self, name: str, key: str) -> str:
        return f"{self._root.rstrip('/')}/{name}/{key}"
