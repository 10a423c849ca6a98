"""Data sets as torchvision keeps them, and what is said where they are not."""

import gzip
import hashlib
import os
import pickle
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from poise.data.dataset import Splits
from poise.data.reachable import why_unreachable
from poise.data.sources.cifar10 import Cifar10
from poise.data.sources.cifar100 import Cifar100
from poise.data.sources.fashion_mnist import FashionMnist
from poise.data.sources.mnist import Mnist
from poise.data.sources.svhn import Svhn
from poise.errors import UserError

N = 40


def _pictures(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (N, *shape), dtype=np.uint8)


def _label(count: int = 10) -> np.ndarray:
    return np.arange(N, dtype=np.uint8) % count


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def _idx(file: Path, values: np.ndarray) -> None:
    """The format of MNIST: two zeros, the code of uint8, the number of axes, their lengths, the values."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack(f">BBBB{values.ndim}i", 0, 0, 8, values.ndim, *values.shape) + values.tobytes())


def _mnist(root: Path, train: np.ndarray, test: np.ndarray, labels: Sequence[np.ndarray]) -> None:
    for name, x, label in (("train", train, labels[0]), ("t10k", test, labels[1])):
        _idx(root / f"{name}-images-idx3-ubyte", x)
        _idx(root / f"{name}-labels-idx1-ubyte", label)


def _batch(file: Path, x: np.ndarray, **rest: object) -> list[str]:
    """The format of CIFAR; its name and checksum as torchvision lists them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps({"data": x.reshape(N, -1), **rest}))
    return [file.name, _md5(file)]


def _check(splits: Splits, train: np.ndarray, test: np.ndarray) -> None:
    """The official sets, the first of them shared out, by their bytes [N, C, H, W]."""
    assert torch.equal(splits.test.x[:], torch.from_numpy(test))
    x = torch.cat([split.x[:] for name, split in splits.main.items() if name != "test"])
    assert sorted(row.numpy().tobytes() for row in x) == sorted(row.tobytes() for row in train)
    assert [len(splits.val), len(splits.calibration)] == [10, 10]
    assert splits.train.x.dtype == torch.uint8


@pytest.mark.parametrize("source", [Mnist, FashionMnist])
def test_the_family_of_mnist(tmp_path: Path, source: type[Mnist | FashionMnist]) -> None:
    train, test = _pictures(0, 28, 28), _pictures(1, 28, 28)
    _mnist(tmp_path / source.dataset / "raw", train, test, (_label(), _label()))
    splits = source(str(tmp_path), val=0.25, calibration=0.25).load(0)
    _check(splits, train[:, None], test[:, None])
    assert splits.class_names[9] == ("9" if source is Mnist else "Ankle boot")
    assert splits.test.label.tolist() == _label().tolist()


@pytest.mark.parametrize("source", [Cifar10, Cifar100])
def test_the_family_of_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: type[Cifar10 | Cifar100]) -> None:
    hundred = source is Cifar100
    train, test = _pictures(0, 3, 32, 32), _pictures(1, 3, 32, 32)
    kind = getattr(datasets, source.dataset)
    place, key = tmp_path / kind.base_folder, "fine_labels" if hundred else "labels"
    classes = [f"class {c}" for c in range(100 if hundred else 10)]
    listed = [_batch(place / name, x, **{key: _label().tolist()}) for name, x in (("train", train), ("test", test))]
    meta = _batch(place / "meta", train, **{kind.meta["key"]: classes})
    with pytest.raises(UserError, match="is damaged, not whole .* put cifar-10.*tar.gz there from elsewhere"):
        source(str(tmp_path), download=False).load(0)  # other checksums than the published: not unpickled
    monkeypatch.setattr(kind, "train_list", listed[:1])
    monkeypatch.setattr(kind, "test_list", listed[1:])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "filename": meta[0], "md5": meta[1]})
    splits = source(str(tmp_path), val=0.25, calibration=0.25).load(0)
    _check(splits, train, test)
    assert splits.class_names == tuple(classes)
    assert source.augment == ("pad_crop", "flip")


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, listed = {}, {}
    for seed, name in enumerate(("train", "test")):
        pictures[name] = _pictures(seed, 3, 32, 32)
        label = np.where(_label() == 0, 10, _label())[:, None]  # the digit 0 is called 10 there
        savemat(tmp_path / f"{name}_32x32.mat", {"X": pictures[name].transpose(2, 3, 1, 0), "y": label})
        listed[name] = ["", f"{name}_32x32.mat", _md5(tmp_path / f"{name}_32x32.mat")]
    monkeypatch.setattr(datasets.SVHN, "split_list", {**datasets.SVHN.split_list, **listed})
    splits = Svhn(str(tmp_path), val=0.25, calibration=0.25).load(0)
    _check(splits, pictures["train"], pictures["test"])
    assert splits.test.label.tolist() == _label().tolist()


@pytest.mark.skipif("POISE_DATA" not in os.environ, reason="POISE_DATA names no folder with mnist.npz")
def test_the_real_mnist(tmp_path: Path) -> None:
    with np.load(Path(os.environ["POISE_DATA"], "mnist.npz")) as file:
        train, test, labels = (
            file["x_train"],
            file["x_test"],
            [file[name].astype(np.uint8) for name in ("y_train", "y_test")],
        )
        _mnist(tmp_path / "MNIST" / "raw", train, test, labels)
    splits = Mnist(str(tmp_path)).load(0)
    sizes = {name: len(split) for name, split in splits.main.items()}
    assert sum(sizes.values()) == len(train) + len(test)
    assert torch.equal(splits.test.x[:], torch.from_numpy(test)[:, None])
    assert torch.equal(splits.test.label, torch.from_numpy(labels[1]).long())
    means = [float(split.x[:].float().mean()) for split in splits.main.values()]
    assert max(means) - min(means) < 2.0


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    _mnist(raw, _pictures(0, 28, 28), _pictures(1, 28, 28), (_label(), _label()))
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"MNIST in .* is damaged .*: delete it there"):
        Mnist(str(tmp_path)).load(0)
    with pytest.raises(UserError, match=r"MNIST in .* is damaged .*: delete it there and put .*, or set data.download"):
        Mnist(str(tmp_path), download=False).load(0)


@pytest.fixture
def answers() -> Iterator[str]:
    """The address of a server that has other files than those it is asked for."""

    class Others(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"another file")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Others)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.fixture
def closed() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/"


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def test_what_answers_is_reachable(answers: str, closed: str) -> None:
    assert why_unreachable([closed, answers]) == ""
    assert why_unreachable([closed]) == "127.0.0.1: [Errno 111] Connection refused"


def test_silence_is_waited_for_in_seconds(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.data.reachable.SECONDS", 0.2)
    start = time.monotonic()
    assert why_unreachable([silent, silent]).count("127.0.0.1: ") == 2
    assert time.monotonic() - start < 2.0


def test_where_nothing_can_be_fetched_the_way_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str, closed: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    way_out = (
        r"put MNIST/raw/train-images-idx3-ubyte.gz, .* there from elsewhere, or give .* data=image_folder or data=npz"
    )
    monkeypatch.setattr(datasets.MNIST, "mirrors", [closed])
    with pytest.raises(UserError, match=f"MNIST is not in {tmp_path}/poise/data .*Connection refused.*{way_out}"):
        Mnist().load(0)
    with pytest.raises(UserError, match=rf"MNIST is not in .*{way_out}, or set data.download=true"):
        Mnist(download=False).load(0)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [answers])
    with pytest.raises(UserError, match=f"MNIST cannot be fetched into .*corrupted.*{way_out}"):
        Mnist().load(0)
    with pytest.raises(UserError, match=rf"MNIST in .* is damaged, not whole or not unpacked \(MNIST/raw.*{way_out}"):
        Mnist(download=False).load(0)  # what the server gave is there
    monkeypatch.setattr(datasets.MNIST, "mirrors", [closed])
    with pytest.raises(UserError, match=rf"MNIST in .* is damaged.* and not to be had .*refused.*{way_out}"):
        Mnist().load(0)


def test_archives_that_are_there_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    raw = tmp_path / "MNIST" / "raw"
    train, test = _pictures(0, 28, 28), _pictures(1, 28, 28)
    _mnist(raw, train, test, (_label(), _label()))
    listed = []
    for file in sorted(raw.iterdir()):
        packed = file.with_name(f"{file.name}.gz")
        packed.write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
        listed.append((packed.name, _md5(packed)))
    monkeypatch.setattr(datasets.MNIST, "resources", listed)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [closed])
    _check(Mnist(str(tmp_path), val=0.25, calibration=0.25).load(0), train[:, None], test[:, None])


def test_a_file_is_no_directory_of_torchvisions(tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").touch()
    with pytest.raises(
        UserError, match=r"mnist\.npz is a file: give the directory .* an archive of arrays is data=npz"
    ):
        Mnist(str(tmp_path / "mnist.npz")).load(0)
