"""Calibrated probabilities for new data, from what a run ships."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from poise.config.commands import Predict
from poise.data.archive import as_inputs
from poise.errors import UserError
from poise.files.pictures import PictureFiles
from poise.files.scores import PREFIXES
from poise.files.writing import write_csv, write_npz
from poise.memory import memory_told
from poise.picture_inputs import picture_inputs
from poise.predictor import Predictor
from poise.progress import progress_bar, say

BATCH = 512
FIRST = 10  # rows that are shown
MOST = 20  # predicted classes that are counted one by one
LONGEST = 24  # characters of a file's name beside four columns in a narrow terminal


def main(asked: Predict, run: Path, inputs: np.ndarray | PictureFiles) -> int:
    """Predict for the command line; returns the exit code.

    Raises:
        UserError: a run without a predictor that can be loaded, or inputs that it does not take.
    """
    predictor = Predictor.load(run, trust=asked.trust)
    probabilities = predict(predictor, inputs, f"input={asked.input}")
    names = list(predictor.card.class_names)
    files = [_writable(file) for file in inputs.files] if isinstance(inputs, PictureFiles) else []
    if asked.out is not None:
        _write(asked.out, probabilities, names, files)
    console = Console(highlight=False)
    with console.capture() as shown:  # printed by `say`: rich ends the process where nobody reads on
        console.print(_first(probabilities, names, files))
        console.print(_counts(probabilities, names))
    say(shown.get().rstrip())
    if asked.out is not None:
        say(f"{asked.out} has the probabilities of {len(probabilities)} inputs.")
    return 0


def predict(predictor: Predictor, inputs: np.ndarray | PictureFiles, said: str) -> Float[np.ndarray, "N C"]:
    """Probabilities of N inputs, batch by batch, on a GPU where there is one.

    Args:
        predictor: for inputs of that shape.
        inputs: [N, …], as a file has them; or pictures, which are brought to the predictor's form.
        said: how the user gave them, for messages.

    Raises:
        UserError: inputs that the predictor does not take, or pictures that cannot be read.
    """
    parts = _parts(predictor, inputs, said)
    predictor.to("cuda" if torch.cuda.is_available() else "cpu")
    found: list[Tensor] = []
    with progress_bar(shown=len(inputs) > BATCH)("predict", len(inputs)) as done, memory_told(_on_the_cpu):
        for part in parts:
            try:
                found.append(predictor(part).cpu())
            except UserError as error:
                rows = f", rows {BATCH * len(found)} to {BATCH * len(found) + len(part) - 1}"
                raise UserError(f"{said}{rows if len(inputs) > BATCH else ''}: {error}") from error
            done(len(part))
    return torch.cat(found).numpy()


def _parts(predictor: Predictor, inputs: np.ndarray | PictureFiles, said: str) -> Iterable[Shaped[Tensor, "B *input"]]:
    if isinstance(inputs, PictureFiles):
        return picture_inputs(predictor.card, inputs, said, BATCH)
    return _finite(said, inputs).split(BATCH)


def _on_the_cpu() -> str:
    return "CUDA_VISIBLE_DEVICES= before the command has it predict on the CPU"


def _finite(said: str, inputs: np.ndarray) -> Shaped[Tensor, "N *input"]:
    with np.errstate(over="ignore"):
        x = as_inputs(said, inputs)
    wrong = np.flatnonzero(~torch.isfinite(x).flatten(1).all(1).numpy())
    if len(wrong):
        large = np.isfinite(inputs[wrong[0]]).all()
        what = "beyond what float32 holds" if large else "that are NaN or infinite"
        raise UserError(f"{said}: row {wrong[0]} has values {what}.")
    return x


def _first(probabilities: np.ndarray, names: list[str], files: Sequence[str]) -> Table:
    """The first inputs, each with the most probable class and the one after it."""
    rows = min(FIRST, len(probabilities))
    table = _table(f"the first {rows} of {len(probabilities)}" if rows < len(probabilities) else "all inputs")
    for heading in ("input", "prediction", "probability", "second", "probability"):
        table.add_column(heading, justify="right" if heading in ("input", "probability") else "left")
    for row, own in enumerate(probabilities[:rows]):
        first, second = np.argsort(-own, kind="stable")[:2]
        one, other = Text(names[first]), Text(names[second])
        shown = Text(_end(files[row])) if files else str(row)
        table.add_row(shown, one, _percent(own[first]), other, _percent(own[second]))
    return table


def _end(file: str) -> str:
    """The end of a file's name, which tells those of one folder apart, as a line of a table shows it."""
    text = "".join(character if character.isprintable() else "?" for character in file)
    return text if len(text) <= LONGEST else f"…{text[1 - LONGEST :]}"


def _counts(probabilities: np.ndarray, names: list[str]) -> Table:
    """How often each class is predicted, and how confidently."""
    predictions, confidence = probabilities.argmax(1), probabilities.max(1)
    counts = np.bincount(predictions, minlength=len(names))
    most = [place for place in np.argsort(-counts, kind="stable") if counts[place]]
    table = _table("by predicted class")
    table.add_column("class")
    for heading in ("inputs", "mean confidence"):
        table.add_column(heading, justify="right")
    for place in most[:MOST]:
        table.add_row(Text(names[place]), str(counts[place]), _percent(confidence[predictions == place].mean()))
    if len(most) > MOST:
        others = np.isin(predictions, most[MOST:])
        table.add_row(f"{len(most) - MOST} others", str(others.sum()), _percent(confidence[others].mean()))
    table.add_row("all", str(len(predictions)), _percent(confidence.mean()), style="bold")
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", header_style="bold")


def _percent(share: float | np.floating) -> str:
    return f"{100 * share:.2f} %"


def _write(out: str, probabilities: np.ndarray, names: list[str], files: Sequence[str]) -> None:
    """Write a row for each input; with its file where it has one."""
    predictions = probabilities.argmax(1)
    if out.lower().endswith(".csv"):
        columns = ["prediction", *(f"{PREFIXES['probabilities']}{name}" for name in names)]
        lines = _lines(probabilities, [names[place] for place in predictions])
        if files:
            columns = ["file", *columns]
            lines = ([file, *line] for file, line in zip(files, lines, strict=True))
        write_csv(out, columns, lines)
    else:
        own = {"files": np.array(files)} if files else {}
        write_npz(out, {**own, "probabilities": probabilities, "predictions": predictions})


def _lines(probabilities: np.ndarray, predictions: list[str]) -> Iterator[list[object]]:
    for name, own in zip(predictions, probabilities.tolist(), strict=True):
        yield [name, *own]


def _writable(file: str) -> str:
    """A file's name as text, bytes that are none escaped."""
    return file.encode("utf-8", "backslashreplace").decode()
