"""A checkpoint: a directory with a manifest and checksums, written whole or not at all."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from poise.distributed import Ranks
from poise.errors import UserError
from poise.state_file import read_state

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state"
PARTIAL, REMOVED = ".partial", ".removed"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint says of itself, once all its files have been verified.

    Attributes:
        directory: the checkpoint.
        facts: what was noted when it was written: step, epoch, metrics, …
        ranks: how many processes wrote it.
    """

    directory: Path
    facts: Mapping[str, Any]
    ranks: int

    @property
    def state(self) -> Path:
        """The file that the trainer saved, for its `ckpt_path`: tensors and plain values, whole under any strategy."""
        return self.directory / STATE


def write(
    directory: Path,
    ranks: Ranks,
    save: Callable[[Path], object],
    per_rank: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
) -> None:
    """Write a checkpoint; it appears under its name when it is complete. To be called on all ranks.

    Args:
        directory: the checkpoint; one that stands there is replaced.
        ranks: the processes that write it, to one file system.
        save: `trainer.save_checkpoint`, called on all ranks with the path to write to.
        per_rank: what differs by rank: tensors, numbers, strings, and lists and dicts of them.
        facts: values that JSON knows; `step` has to be among them and puts checkpoints in order.

    Raises:
        OSError: on the rank that could not write, RuntimeError on the others; an older checkpoint of that
            name is left as it was.
    """
    if "step" not in facts:
        raise ValueError("a checkpoint's facts need the step, which puts checkpoints in order")
    partial = directory.with_name(directory.name + PARTIAL)

    def write_state() -> None:
        save(partial / STATE)
        _check_plain(per_rank, "per_rank")
        with (partial / _rank_file(ranks.rank)).open("wb") as file:  # which says why it cannot be written
            torch.save(dict(per_rank or {}), file)

    try:
        _together(ranks, directory, lambda: _start(partial), only_first=True)
        _together(ranks, directory, write_state)
        _together(ranks, directory, lambda: _finish(partial, directory, ranks.size, facts), only_first=True)
    except Exception:
        if ranks.rank == 0:
            shutil.rmtree(partial, ignore_errors=True)  # a full disk has room again for what is still to be said
        raise


def read(directory: Path) -> Manifest:
    """The manifest of a checkpoint, after the size and checksum of every file were verified.

    Raises:
        UserError: no checkpoint stands there, or a file of it is missing, cut short, changed or not listed.
    """
    content = _content(directory)
    files = content["files"]
    for name, expected in files.items():
        _verify(directory, name, expected)
    ranks = (_rank_file(rank) for rank in range(content["ranks"]))
    if missing := next((name for name in ranks if name not in files), None):
        raise _damaged(directory, f"{missing} is not listed in its {MANIFEST}")
    unlisted = sorted(set(_files(directory)) - {*files, MANIFEST})
    if unlisted:
        raise _damaged(directory, f"{unlisted[0]} is not listed in its {MANIFEST}")
    return Manifest(directory, content["facts"], content["ranks"])


def glance(directory: Path) -> Manifest | None:
    """What a checkpoint says of itself, its files not verified; None where no finished one stands."""
    if directory.suffix in (PARTIAL, REMOVED):
        return None
    try:
        content = _content(directory)
    except UserError:
        return None
    return Manifest(directory, content["facts"], content["ranks"])


def newest(root: Path) -> Manifest | None:
    """The checkpoint under `root` with the highest step that is whole; those skipped are logged."""
    candidates = []
    for directory in sorted(path for path in root.glob("*") if path.is_dir()):
        if directory.suffix == REMOVED:
            continue
        if directory.suffix == PARTIAL:
            log.warning("%s was not finished: skipped", directory)
            continue
        try:
            candidates.append((_content(directory)["facts"]["step"], directory.name, directory))
        except UserError as error:
            log.warning("%s Skipped.", error)
    for _, _, directory in sorted(candidates, reverse=True):
        try:
            return read(directory)
        except UserError as error:
            log.warning("%s Skipped.", error)
    return None


def remove(directory: Path) -> None:
    """Remove a checkpoint, or what is left of one; it is gone from the first moment, whatever comes in between."""
    removed = directory if directory.suffix == REMOVED else directory.with_name(directory.name + REMOVED)
    if removed != directory:
        shutil.rmtree(removed, ignore_errors=True)
        directory.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def rank_state(manifest: Manifest, rank: int) -> dict[str, Any]:
    """What rank `rank` gave as `per_rank`, its tensors on the CPU.

    Raises:
        UserError: the checkpoint was written by fewer ranks.
    """
    if not 0 <= rank < manifest.ranks:
        raise UserError(
            f"{manifest.directory} was written by {manifest.ranks} ranks and holds nothing for rank {rank}: "
            f"what differs by rank can be resumed on as many ranks only."
        )
    return read_state(manifest.directory / _rank_file(rank))


def _together(ranks: Ranks, directory: Path, work: Callable[[], None], only_first: bool = False) -> None:
    """Do `work` on every rank, or on the first; where it fails on one, no rank goes on."""
    failure: Exception | None = None
    if ranks.rank == 0 or not only_first:
        try:
            work()
        except Exception as error:
            failure = error
    ranks.barrier()  # one may have more to write, for longer than a collective waits
    failed = ranks.collect(torch.tensor([failure is not None]))
    if failure is not None:
        raise failure
    if failed.any():
        first = int(failed.nonzero()[0])
        raise RuntimeError(f"the checkpoint {directory} was not written: rank {first} failed")


def _start(partial: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)


def _finish(partial: Path, directory: Path, ranks: int, facts: Mapping[str, Any]) -> None:
    names = _files(partial)
    content = {
        "format": FORMAT,
        "ranks": ranks,
        "facts": dict(facts),
        "files": {name: _describe(partial / name) for name in names},
    }
    text = json.dumps({**content, "sha256": _digest_of(content)}, indent=1)
    (partial / MANIFEST).write_text(text, encoding="utf-8")
    for name in [*names, MANIFEST]:
        _sync(partial / name)
    for folder in [path for path in partial.rglob("*") if path.is_dir()]:
        _sync(folder)
    _sync(partial)
    if directory.exists():
        remove(directory)
    partial.rename(directory)
    _sync(directory.parent)


def _content(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    if not path.is_file():
        raise UserError(f"{directory} is not a whole checkpoint: it has no {MANIFEST}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(directory, f"{MANIFEST} cannot be read ({error})") from error
    if content.get("format") != FORMAT:
        raise UserError(
            f"{directory} has format {content.get('format')!r}; this version of poise reads format {FORMAT}."
        )
    if digest != _digest_of(content):
        raise _damaged(directory, f"{MANIFEST} was changed after it was written")
    if not _is_complete(content):
        raise _damaged(directory, f"{MANIFEST} does not say what was written")
    return dict(content)


def _is_complete(content: Mapping[str, Any]) -> bool:
    facts, files, ranks = (content.get(name) for name in ("facts", "files", "ranks"))
    if not isinstance(facts, dict) or type(facts.get("step")) is not int or type(ranks) is not int or ranks < 1:
        return False
    return isinstance(files, dict) and all(isinstance(e, dict) and {"size", "sha256"} == set(e) for e in files.values())


def _verify(directory: Path, name: str, expected: Mapping[str, Any]) -> None:
    path = directory / name
    if not os.path.isfile(path):
        raise _damaged(directory, f"{name} is missing")
    size = path.stat().st_size
    if size != expected["size"]:
        raise _damaged(directory, f"{name} has {size} bytes instead of {expected['size']}")
    if _describe(path) != expected:
        raise _damaged(directory, f"{name} was changed after it was written (its checksum differs)")


def _damaged(directory: Path, what: str) -> UserError:
    what = what if what.isprintable() else repr(what)  # a damaged manifest names what it likes
    return UserError(f"the checkpoint {directory} is damaged: {what}. Use an older one, or remove it.")


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _digest_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _files(directory: Path) -> list[str]:
    return sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and not path.name.startswith(".")  # network file systems leave such behind
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rank_file(rank: int) -> str:
    return f"rank-{rank}.pt"


def _check_plain(value: object, name: str) -> None:
    """A rank's state is loaded with weights_only: what that refuses is refused before it is written."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(item, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _check_plain(item, f"{name}[{position}]")
    elif not isinstance(value, torch.Tensor | int | float | str | bytes | None):
        raise TypeError(
            f"{name} is a {type(value).__name__}; a checkpoint holds tensors, numbers, strings, lists, dicts"
        )
