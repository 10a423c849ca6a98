"""Data sets that torchvision downloads and reads."""

import io
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Gt, Lt
from jaxtyping import Int, UInt8
from torch import Tensor

from poise.data.dataset import Arrays, Splits
from poise.data.kept import alone, cache_home
from poise.data.partition import stratified
from poise.data.reachable import why_unreachable
from poise.data.source import DataSource
from poise.data.stand_in import sizes_of, stand_in
from poise.errors import UserError
from poise.files.shown import listed
from poise.progress import say

SILENCE = 30.0  # seconds without a byte after which a download is given up


class TorchvisionSource(DataSource):
    """Base of data sets that torchvision reads, from the directories that it keeps them in.

    The official test set is test; val and calibration are shares of the official training set.

    Args:
        path: torchvision's root directory; None is poise/data in the user's cache directory.
        val: share of the training examples that choose the model.
        calibration: share of the training examples that fits calibrators.
        download: whether torchvision fetches what is not there.

    Attributes:
        dataset: torchvision's name of it.
        archives: files that torchvision fetches, relative to its root.
        unpacked: directory that it unpacks them into, likewise.
        class_names: where torchvision's own are not meant.
        shape: of one picture.
    """

    dataset: ClassVar[str] = ""
    archives: ClassVar[tuple[str, ...]] = ()
    unpacked: ClassVar[str] = ""
    class_names: ClassVar[tuple[str, ...]] = ()
    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)

    def __init__(
        self,
        path: str | None = None,
        val: Annotated[float, Gt(0), Lt(1)] = 0.1,
        calibration: Annotated[float, Gt(0), Lt(1)] = 0.1,
        download: bool = True,
    ) -> None:
        self.path = path
        self.val = val
        self.calibration = calibration
        self.download = download

    @property
    def root(self) -> Path:
        """The directory that torchvision reads."""
        return cache_home() / "data" if self.path is None else Path(self.path)

    def load(self, seed: int) -> Splits:
        """The data, fetched first where they are missing.

        Raises:
            UserError: they are missing and cannot be fetched, or they are damaged.
        """
        if self.root.is_file():
            raise UserError(
                f"data.path={self.root} is a file: give the directory that torchvision keeps {self.dataset} in; an "
                "archive of arrays is data=npz."
            )
        train, test = self._found()
        label = self.labels(train)
        rows = stratified(label, {"val": self.val, "calibration": self.calibration}, seed)
        whole = Arrays(self.pictures(train), label)
        names = self.class_names or tuple(train.classes)
        return Splits(
            train=whole.rows(rows["train"]),
            val=whole.rows(rows["val"]),
            calibration=whole.rows(rows["calibration"]),
            test=Arrays(self.pictures(test), self.labels(test)),
            num_classes=len(names),
            class_names=names,
        )

    def stand_in(self) -> Splits | None:
        """Splits of the published sizes."""
        if self.published is None:
            return None
        classes, train, test = self.published
        return stand_in(self.shape, classes, sizes_of(train, test, self.val, self.calibration))

    def pictures(self, dataset: Any) -> UInt8[Tensor, "N C H W"]:
        """Those of torchvision's data set: [N, H, W, C] or [N, H, W] there."""
        x = torch.as_tensor(dataset.data)
        return x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()

    def labels(self, dataset: Any) -> Int[Tensor, " N"]:
        """Those of torchvision's data set."""
        return torch.as_tensor(dataset.targets)

    def made(self, kind: Any, train: bool, download: bool) -> Any:
        """Torchvision's data set, an instance of `kind`."""
        return kind(self.root, train=train, download=download)

    def addresses(self, kind: Any) -> list[str]:
        """Where it is fetched from; one that answers is enough."""
        return [kind.url]

    def _found(self) -> tuple[Any, Any]:
        found = self._read()
        if found is not None:
            return found
        if not self.download:
            raise UserError(f"{self._lack()}: {self._way_out()}, or set data.download=true.")
        self._fetch()
        found = self._read()
        if found is None:
            raise UserError(f"{self.dataset} in {self.root} is damaged: {self._anew()}.")
        return found

    def _read(self) -> tuple[Any, Any] | None:
        """The training and the test set; None where they are missing, or not what their checksums say."""
        from torchvision import datasets

        kind = getattr(datasets, self.dataset)
        try:
            return self.made(kind, train=True, download=False), self.made(kind, train=False, download=False)
        except Exception as error:  # readers of bytes that anybody wrote raise whatever comes up
            if isinstance(error, RuntimeError) and "not found" in str(error):
                return None
            raise UserError(f"{self.dataset} in {self.root} is damaged ({_said(error)}): {self._anew()}.") from error

    def _fetch(self) -> None:
        """Let torchvision fetch it, in one process of those that want it."""
        from torchvision import datasets

        kind = getattr(datasets, self.dataset)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with alone(self.root / f"{self.dataset}.lock"):
                if self._read() is None:
                    self._check_network(kind)
                    say(f"fetching {self.dataset} into {self.root}")
                    with _patience():
                        self.made(kind, train=True, download=True)
                        self.made(kind, train=False, download=True)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{self.dataset} cannot be fetched into {self.root} ({_said(error)}): {self._way_out()}."
            ) from error

    def _check_network(self, kind: Any) -> None:
        """Without a network torchvision may try for minutes; archives that are there need none."""
        if all((self.root / archive).is_file() for archive in self.archives):
            return
        reason = why_unreachable(self.addresses(kind))
        if reason:
            raise UserError(f"{self._lack()} and not to be had ({reason}): {self._way_out()}.")

    def _lack(self) -> str:
        """What is said of data that torchvision does not find, or not as they were published."""
        there = [name for name in self.archives if (self.root / name).is_file()]
        if self.unpacked and any((self.root / self.unpacked).glob("*")):
            there.append(self.unpacked)
        if not there:
            return f"{self.dataset} is not in {self.root}"
        return f"{self.dataset} in {self.root} is damaged, not whole or not unpacked ({listed(there)})"

    def _anew(self) -> str:
        if self.download:
            return "delete it there, and it is fetched anew"
        return f"delete it there and {self._way_out()}, or set data.download=true"

    def _way_out(self) -> str:
        archives = ", ".join(self.archives)
        return f"put {archives} there from elsewhere, or give pictures of your own by data=image_folder or data=npz"


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _patience() -> Iterator[None]:
    """A server that falls silent is given up, and progress is shown on a terminal alone."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
