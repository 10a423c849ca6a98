"""What is said where a disk takes no more."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space in your quota there",
    errno.EFBIG: "raise the greatest size that a file may have (ulimit -f)",
}
CLOSED = dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable")
RUST = re.compile(r"\(os error (\d+)\)")  # as safetensors has it
NUMPY = re.compile(r"\d+ requested and \d+ written")  # which does not say why


class DiskRefuses(RuntimeError):
    """A file that could not be written, with what to do."""


@contextmanager
def disk_told(directory: Path, way_on: Callable[[], str]) -> Iterator[None]:
    """Say of a directory that cannot be written why, and what to do, in one line.

    Args:
        directory: what is written meanwhile lies in it.
        way_on: gives the end of the sentence "…; free space there; …".

    Raises:
        DiskRefuses: in place of what PyTorch, safetensors, NumPy and Python raise.
    """
    try:
        yield
    except Exception as error:
        number = _refusal(error, directory)
        if number is None:
            raise
        refusal = OSError(number, os.strerror(number))
        said = f"{directory} cannot be written: {refusal.strerror}; {way_out(refusal)}; {way_on()}"
        raise DiskRefuses(said) from error


def way_out(error: OSError) -> str:
    """What to do where something cannot be written; "" where the system's reason says all."""
    return {**FULL, **CLOSED}.get(error.errno or 0, "")


def _refusal(error: BaseException | None, directory: Path) -> int | None:
    """The number of the refusal that an exception comes from; None where it comes from something else."""
    while error is not None:
        number = _number(error)
        if number in FULL or (number in CLOSED and _inside(error, directory)):
            return number
        error = error.__cause__ or error.__context__
    return None


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if found := RUST.search(str(error)):
        return int(found.group(1))
    return errno.ENOSPC if NUMPY.search(str(error)) else None


def _inside(error: BaseException, directory: Path) -> bool:
    """Whether it is about a file in a directory: others are read meanwhile."""
    name = getattr(error, "filename", None)
    return isinstance(name, str) and Path(name).resolve().is_relative_to(directory.resolve())
