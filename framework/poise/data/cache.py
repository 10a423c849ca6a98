"""Pictures decoded once, into a file that all processes of a machine share in memory."""

import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from math import prod
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from poise.data.decoding import Decoded, Gallery, Shape, decode_into
from poise.data.kept import alone, cache_home
from poise.data.stored import Stored
from poise.launching import speaks
from poise.progress import say

log = logging.getLogger("poise")

VERSION = 2  # of the files; another one makes caches anew
PICTURES, MANIFEST = "pictures.bin", "manifest.json"
LEFT_FREE = 1.0  # GB of a disk that caches leave to others
GB = 10**9
LONGEST = 40  # characters of a folder's name in its cache's
SAMPLED, SLICE = 2**14, 64  # slices that a checksum is made of, and bytes of each


class _NoCache(Exception):
    """Why there is no cache."""


class Mapped(Stored):
    """Pictures [N, C, H, W] in a file of their bytes, of which the system keeps in memory what is read and fits."""

    def __init__(self, file: Path, shape: Shape) -> None:
        super().__init__(shape, torch.uint8)
        values = np.memmap(file, dtype=np.uint8, mode="r", shape=tuple(shape))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch would have it writable, and nobody writes to it
            self.values = torch.from_numpy(values)

    def read(self, positions: Int[Tensor, " B"]) -> UInt8[Tensor, "B C H W"]:
        return self.values.index_select(0, positions)


def read_pictures(gallery: Gallery, home: Path | None, limit: float) -> Stored:
    """The pictures [N, C, H, W], uint8, in the order of their files.

    Whoever comes first decodes them into a cache, for which other processes wait, and which stays for other runs. What
    is larger than the limit or has no place is decoded whenever it is read, to the same bytes.

    Args:
        gallery: the pictures, one or more.
        home: directory of caches; None is `poise/pictures` in the user's cache directory.
        limit: of this cache, in GB.

    Raises:
        UserError: pictures that cannot be read, or of several sizes.
    """
    try:
        return _cached(gallery, home or cache_home() / "pictures", limit)
    except _NoCache as reason:
        # once for a run, not for each of its ranks
        tell = log.warning if speaks() else log.info
        tell("%s; the pictures of %s are decoded at every reading", reason, gallery.folder)
        return Decoded(gallery, gallery.shape())


def _cached(gallery: Gallery, home: Path, limit: float) -> Stored:
    place = home / f"{gallery.folder.name[:LONGEST]}-{_key(gallery)}"
    found = _opened(place)
    if found is None:
        shape = gallery.shape()
        try:
            _check_room(home, prod(shape) / GB, limit)
            home.mkdir(parents=True, exist_ok=True)
            with alone(home / f"{place.name}.lock"):
                found = _opened(place) or _made(place, gallery, shape)
        except OSError as error:
            raise _NoCache(f"no cache can be written in {home}: {error.strerror}") from error
    log.info("pictures of %s are read from %s (%.3g GB)", gallery.folder, place, found.shape.numel() / GB)
    return found


def _key(gallery: Gallery) -> str:
    """Of what the bytes follow from: the files by name, size and time, and the form that they are brought to."""
    known = hashlib.blake2b(f"{VERSION}\n{gallery.folder}\n{gallery.form}\n".encode("utf-8", "surrogateescape"))
    folder = os.fspath(gallery.folder)
    for file in gallery.files:
        found = os.stat(f"{folder}/{file}")  # a Path would take longer than the system does
        known.update(os.fsencode(f"{file}\n{found.st_size} {found.st_mtime_ns}\n"))
    return known.hexdigest()[:16]


def _check_room(home: Path, needed: float, limit: float) -> None:
    if needed > limit:
        raise _NoCache(f"a cache of {needed:.3g} GB is above data.cache_limit={limit:g}")
    standing = next(place for place in (home, *home.absolute().parents) if place.exists())
    free = shutil.disk_usage(standing).free / GB
    if needed > free - LEFT_FREE:
        raise _NoCache(f"a cache of {needed:.3g} GB has no room in {home}, where {free:.3g} GB are free")


def _opened(place: Path) -> Mapped | None:
    """The cache in a directory; None where there is none, or a damaged one."""
    try:
        manifest = json.loads((place / MANIFEST).read_text("utf-8"))
        file, shape = place / PICTURES, tuple(manifest["shape"])
        if file.stat().st_size == prod(shape) and _checksum(found := Mapped(file, shape)) == manifest["checksum"]:
            return found
    except (OSError, ValueError, LookupError, TypeError):
        pass  # whatever is in there, it is none of ours
    return None


def _made(place: Path, gallery: Gallery, shape: Shape) -> Mapped:
    """A new cache; it is there when it is whole."""
    if place.exists():
        log.warning("the cache %s is damaged: it is made again", place)
    say(f"decoding {shape[0]} pictures of {gallery.folder}, once, into {place}")
    for other in _others(place, gallery):
        say(f"{other} holds them as they were, or in another form: delete it if no run reads it")
    unfinished = place.with_name(f"{place.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished.mkdir()
    try:
        decode_into(unfinished / PICTURES, gallery, shape)
        found = Mapped(unfinished / PICTURES, shape)
        manifest = {
            "folder": str(gallery.folder),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "shape": list(shape),
            "checksum": _checksum(found),
        }
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
        shutil.rmtree(place, ignore_errors=True)
        unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return found


def _others(place: Path, gallery: Gallery) -> Iterator[Path]:
    """Caches of the same folder; nobody knows whether other runs read them."""
    for manifest in sorted(place.parent.glob(f"*/{MANIFEST}")):
        try:
            folder = json.loads(manifest.read_text("utf-8"))["folder"]
        except (OSError, ValueError, LookupError, TypeError):
            continue
        if folder == str(gallery.folder) and manifest.parent != place:
            yield manifest.parent


def _checksum(pictures: Mapped) -> str:
    """Of the size, the end, and slices at equal distances: reading all would take as long as an epoch."""
    content = pictures.values.view(-1)
    step = max(SLICE, len(content) // SAMPLED)
    found = hashlib.blake2b(str(tuple(pictures.shape)).encode(), digest_size=16)
    found.update(content[-SLICE:].numpy().data)
    found.update(content.unfold(0, min(SLICE, len(content)), step).contiguous().numpy().data)
    return found.hexdigest()
