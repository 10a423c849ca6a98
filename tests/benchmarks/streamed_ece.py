"""What a streamed update of the calibration error costs: `python tests/benchmarks/streamed_ece.py` prints a table."""

import argparse
import resource
from collections.abc import Callable
from statistics import median

import torch
from measure import clock_of
from torchmetrics.classification import MulticlassCalibrationError

from poise.metrics import CalibrationError

EXAMPLES, CLASSES = 20_000, 1000
TARGET = 0.7


def seconds(act: Callable[[], object], clock: Callable[[], float]) -> float:
    """Of one call."""
    start = clock()
    act()
    return clock() - start


def peak(device: str) -> float:
    """The most memory that has been held, in MiB: by the process, or on the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table: both update on the same logits, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9, help="of each program; one more comes first, to warm up")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="that the logits lie on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = clock_of(options.device)
    keyed = torch.Generator().manual_seed(0)
    logits = torch.randn(EXAMPLES, CLASSES, generator=keyed).mul_(3)
    labels = torch.randint(CLASSES, (EXAMPLES,), generator=keyed)
    logits, labels = logits.to(options.device), labels.to(options.device)
    ours = CalibrationError().to(options.device)
    theirs = MulticlassCalibrationError(CLASSES, 15, validate_args=False).to(options.device)
    ours.update(logits[:100], labels[:100])  # what is loaded once
    before = peak(options.device)
    ours.update(logits, labels)
    held = peak(options.device) - before
    theirs.update(logits, labels)
    times, base = [], []
    for _ in range(options.turns):
        times.append(seconds(lambda: ours.update(logits, labels), clock))
        base.append(seconds(lambda: theirs.update(logits, labels), clock))
    ratios = [mine / other for mine, other in zip(times, base, strict=True)]
    cells = (
        f"{EXAMPLES} x {CLASSES}",
        f"{median(ratios):.3f}",
        f"{min(ratios):.2f} – {max(ratios):.2f}",
        f"{TARGET:.2f}",
        f"{1e3 * median(times):.1f}",
        f"{1e3 * median(base):.1f}",
        f"{held:.1f}",
    )
    print("| logits | ratio | min – max | target | ms | torchmetrics' ms | MiB above the logits |")
    print(f"| {' | '.join(['---'] * len(cells))} |\n| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
