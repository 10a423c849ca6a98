"""What pictures cost on their way from a folder into a step: `python tests/benchmarks/loading.py` prints the table."""

import argparse
import os
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import HEADER, Loader, Meter, Ratio, interleave, share_one_heap
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder as TorchvisionFolder
from torchvision.transforms import Compose, RandomCrop, RandomHorizontalFlip, ToTensor

from poise import TrainingModule
from poise.batch import Batch
from poise.data.augmentations.flip import Flip
from poise.data.augmentations.pad_crop import PadCrop
from poise.data.loader import TrainLoader
from poise.data.module import DataModule
from poise.data.sources.image_folder import ImageFolder
from poise.distributed import Ranks
from poise.models.small_cnn import small_cnn

BATCH, BLOCK, CLASSES, SIDE = 128, 16, 10, 32
Clock = Callable[[], float]
SGD: dict[str, Any] = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
ARCHIVE = "cifar10-images.zip"


@dataclass(frozen=True)
class Job:
    """What all programs of a comparison read, and for how long.

    Args:
        folder: of pictures, `CLASS/NAME.jpg`.
        cache: directory of poise's caches.
        steps: of one turn.
        turns: of each program; one more comes first, to warm up.
    """

    folder: Path
    cache: Path
    steps: int
    turns: int

    def loader(self) -> TrainLoader:
        """poise's, of pictures that are mapped into memory."""
        return DataModule(ImageFolder(str(self.folder), cache=str(self.cache)).load(0), BATCH).train_dataloader()


class Endless:
    """A loader's batches, epoch after epoch, for as long as a job takes.

    Args:
        loader: of one epoch.
        job: that says for how long.
    """

    def __init__(self, loader: Loader, job: Job) -> None:
        self.loader, self.length = loader, job.steps * (job.turns + 1) + 1

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[object]:
        while True:
            yield from self.loader


class Shuffled:
    """Rows of batches, in another order each epoch.

    Args:
        size: how many rows there are.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.randperm(self.size).split(BATCH)[: self.size // BATCH])


class Poise:
    """poise's way of a batch to floats on the device, augmented."""

    def __init__(self) -> None:
        augment = {"pad_crop": PadCrop(), "flip": Flip()}
        self.module = TrainingModule(_model(), num_classes=CLASSES, block=BLOCK, augment=augment)
        self.step = self.module.detached_step(Ranks())

    def batch(self, record: dict[str, Tensor]) -> Batch:
        """The batch that a recipe would be given."""
        return self.module.augmented(self.module.receive(record), self.step)


def torchvision(job: Job, meter: Meter, workers: int) -> None:
    """torchvision's folder and transforms in the worker processes of PyTorch's loader; nothing is done with a batch."""
    data = TorchvisionFolder(job.folder, Compose([RandomCrop(SIDE, 4), RandomHorizontalFlip(), ToTensor()]))
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)
    for _ in meter.over(Endless(loader, job)):
        pass


def poise(job: Job, meter: Meter) -> None:
    """The same pictures, moved and mirrored alike, by poise; nothing is done with a batch."""
    way = Poise()
    for record in meter.over(Endless(job.loader(), job)):
        way.batch(record)


def poise_step(job: Job, meter: Meter) -> None:
    """A step of a small model in plain PyTorch, on batches that come by poise."""
    way, model = Poise(), _model()
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    for record in meter.over(Endless(job.loader(), job)):
        batch = way.batch(record)
        _step(model, optimizer, batch.x, batch.label)


def bare_step(job: Job, meter: Meter) -> None:
    """The same step in a loop on tensors in memory, augmented alike."""
    loader = job.loader()
    x, label = loader.data.x[torch.arange(len(loader.data))], loader.data.label
    crop, flip, model = PadCrop(), Flip(), _model()
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    for rows in meter.over(Endless(Shuffled(len(label)), job)):
        batch = x.index_select(0, rows).float() / 255
        batch = crop.apply(batch, torch.rand(BATCH, 2))
        batch = flip.apply(batch, torch.rand(BATCH, 1))
        _step(model, optimizer, batch, label[rows])


def _model() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return small_cnn(CLASSES, (3, SIDE, SIDE), width=16)


def _step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, label: Tensor) -> None:
    loss = F.cross_entropy(model(x), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def batches_over_torchvision(job: Job, workers: int, clock: Clock, target: float) -> Ratio:
    """Batches with which nothing is done."""
    programs = {"poise": partial(poise, job), "torchvision": partial(torchvision, job, workers=workers)}
    times = interleave(programs, job.steps, clock)
    return Ratio(f"batch of {BATCH}", f"torchvision, {workers} workers", times["poise"], times["torchvision"], target)


def steps_over_tensors(job: Job, clock: Clock) -> Ratio:
    """Steps of a small model."""
    times = interleave({"poise": partial(poise_step, job), "bare": partial(bare_step, job)}, job.steps, clock)
    return Ratio("step (32x32, width 16, batch 128)", "a loop on tensors", times["poise"], times["bare"], 1.05)


def comparisons(folder: Path, cache: Path, turns: int) -> Iterator[Ratio]:
    """By the clock, then by the processor's time, for machines that do other work: workers' would not be counted."""
    alone, steps = Job(folder, cache, 20, turns), Job(folder, cache, 5, turns)
    yield batches_over_torchvision(alone, 2, time.perf_counter, 1 / 3)
    yield steps_over_tensors(steps, time.perf_counter)
    yield batches_over_torchvision(alone, 0, time.process_time, 1 / 6)
    yield steps_over_tensors(steps, time.process_time)


def unpack(folder: Path, count: int) -> None:
    """Pictures of CIFAR-10 where POISE_DATA has them, noise where not; as many of each class."""
    each = count // CLASSES
    archive = Path(os.environ.get("POISE_DATA", "")) / ARCHIVE
    if not archive.is_file():
        noise = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        for number, pixels in enumerate(noise):
            place = folder / str(number % CLASSES) / f"{number:05}.jpg"
            place.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(place)
        return
    with zipfile.ZipFile(archive) as packed:
        names = sorted(name for name in packed.namelist() if "/train/" in name and name.endswith(".jpg"))
        kinds = sorted({name.split("/")[-2] for name in names})
        for kind in kinds:
            for name in [name for name in names if name.split("/")[-2] == kind][:each]:
                place = folder / kind / name.rpartition("/")[2]
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(packed.read(name))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=30, help="of each program")
    parser.add_argument("--pictures", type=int, default=10000, help="in the folder")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    share_one_heap()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        folder.mkdir()
        unpack(folder, options.pictures)
        Job(folder, Path(place), 1, 1).loader()  # says that it decodes, and is not measured
        load = os.getloadavg()[0]
        print(f"PyTorch {torch.__version__}, {options.threads} thread(s), load {load:.1f}\n\n{HEADER}", flush=True)
        for ratio in comparisons(folder, Path(place), options.turns):
            print(ratio.row(), flush=True)


if __name__ == "__main__":
    main()
