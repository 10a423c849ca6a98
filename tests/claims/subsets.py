"""Small parts of MNIST and CIFAR-10 to train and test on, drawn by seed."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from poise.data.dataset import Arrays, Splits
from poise.errors import UserError

VALIDATION, CALIBRATION, TEST = 200, 50, 1000  # examples, beside those that are trained on

Pool = tuple[Callable[[Tensor], Tensor], Tensor]  # from rows to pictures, and the label of each row


def splits_of(data: str, train: int, seed: int, calibration: int = CALIBRATION, tested: int = TEST) -> Splits:
    """So many training examples of a data set by seed; the test examples are the same for all seeds.

    Raises:
        UserError: POISE_DATA names no folder with the data.
    """
    training, test = POOLS[data]()
    order = torch.randperm(len(training[1]), generator=torch.Generator().manual_seed(seed))
    sizes = (train, VALIDATION, calibration)
    train_part, val, held_out = (_arrays(training, rows) for rows in order[: sum(sizes)].split(sizes))
    order = torch.randperm(len(test[1]), generator=torch.Generator().manual_seed(0))
    return Splits(train_part, val, held_out, _arrays(test, order[:tested]), num_classes=10)


def _arrays(pool: Pool, rows: Tensor) -> Arrays:
    pictures, label = pool
    return Arrays(pictures(rows), label[rows])


def _file(name: str) -> Path:
    path = Path(os.environ.get("POISE_DATA", "")) / name
    if "POISE_DATA" not in os.environ or not path.is_file():
        raise UserError(f"POISE_DATA names no folder with {name}: export POISE_DATA=<folder>")
    return path


def _mnist() -> tuple[Pool, Pool]:
    with np.load(_file("mnist.npz")) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    return _of_array(arrays["x_train"], arrays["y_train"]), _of_array(arrays["x_test"], arrays["y_test"])


def _of_array(x: Tensor, label: Tensor) -> Pool:
    return lambda rows: x[rows][:, None], label


def _cifar10() -> tuple[Pool, Pool]:
    return _of_archive("cifar10/train/"), _of_archive("cifar10/test/")


def _of_archive(folder: str) -> Pool:
    """The pictures of an archive in class folders, read when they are asked for."""
    path = _file("cifar10-images.zip")
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(folder) and name.endswith(".jpg"))
    classes = sorted({name.split("/")[2] for name in names})

    def pictures(rows: Tensor) -> Tensor:
        with zipfile.ZipFile(path) as archive:
            read = [np.asarray(Image.open(io.BytesIO(archive.read(names[row])))) for row in rows.tolist()]
        return torch.from_numpy(np.stack(read)).movedim(-1, 1).contiguous()

    return pictures, torch.tensor([classes.index(name.split("/")[2]) for name in names])


def _digits() -> tuple[Pool, Pool]:
    """Scikit-learn's, which need no file: to see that a program runs."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = torch.from_numpy(x.reshape(-1, 8, 8) / 16).float(), torch.from_numpy(y).long()
    return _of_array(x[300:], y[300:]), _of_array(x[:300], y[:300])


POOLS: dict[str, Callable[[], tuple[Pool, Pool]]] = {"mnist": _mnist, "cifar10": _cifar10, "digits": _digits}
