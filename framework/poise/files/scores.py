"""What any model says of labelled examples: logits or probabilities, and labels, in a file that anybody can write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from poise.errors import UserError, nearest
from poise.files.arrays import read_npz
from poise.files.columns import Columns, read_columns
from poise.files.rows import SUM, Rows, as_logits, checked_rows
from poise.files.shown import listed, quoted

KINDS = ("logits", "probabilities")
FEWEST = 10  # rows to fit on, so that each of five folds leaves out two
PREFIXES = {"logits": "logit_", "probabilities": "probability_"}
SPLITS = ("calibration", "test")
HEADER = "label,logit_cat,logit_dog"


@dataclass(frozen=True)
class Scores:
    """What a file holds.

    Args:
        fit: examples that calibrators are fitted to.
        test: others, on which they are looked at; None without any.
        classes: names of the C classes.
        doubt: what makes one wonder whether the file is what it says; "" for nothing.
    """

    fit: Rows
    test: Rows | None
    classes: tuple[str, ...]
    doubt: str = ""

    @property
    def seen_twice(self) -> bool:
        """Whether calibrators are looked at on the rows that they are fitted to."""
        return self.test is not None and _are_the_same(self.fit, self.test)

    @property
    def told(self) -> str:
        """How much there is, in words."""
        test = f", {len(self.test)} to test on" if self.test else ""
        return f"{len(self.classes)} classes, {len(self.fit)} rows to fit on{test}"


@dataclass(frozen=True)
class Unlabelled:
    """Rows without labels.

    Args:
        logits: float64; of probabilities, their logarithms. -inf is a class that is ruled out.
        classes: names of the C classes; None where the file has none.
    """

    logits: Float[np.ndarray, "N C"]
    classes: Sequence[str] | None


def read_scores(path: str, said: str) -> Scores:
    """The scores in an .npz or a .csv file.

    An .npz file has `logits` or `probabilities` [N, C] and `labels` [N], the classes from 0, and may have the same
    with `test_` before each. A .csv file has a column `logit_<class>` or `probability_<class>` for each class, `label`
    with the name of a class, or its place from 0, and may have `split`: calibration or test.

    Args:
        path: of the file.
        said: how the user gave it, for messages.

    Raises:
        UserError: a file that cannot be read, or whose rows are not such scores.
    """
    return _from_csv(path, said) if Path(path).suffix.lower() == ".csv" else _from_npz(path, said)


def read_logits(path: str, said: str) -> Unlabelled:
    """The logits of all rows in an .npz or a .csv file, whether they have labels or not; see `read_scores`.

    Args:
        path: of the file.
        said: how the user gave it, for messages.

    Raises:
        UserError: a file that cannot be read, or whose rows are no logits or probabilities.
    """
    if Path(path).suffix.lower() == ".csv":
        table = read_columns(path, said, HEADER)
        kind = _kind_of_columns(table)
        names, classes = _columns_of_classes(table, kind)
        values, where = table.numbers(names), [f"line {line}" for line in table.lines].__getitem__
        return Unlabelled(as_logits(f"{said}: {kind}", kind, values, where), classes)
    arrays = read_npz(path, said)
    there = [kind for kind in KINDS if kind in arrays]
    if len(there) != 1:
        raise UserError(f"{said} has {listed(arrays)}: give an array `logits` or `probabilities`.")
    values = _numbers(said, there[0], arrays[there[0]])
    return Unlabelled(as_logits(f"{said}: {there[0]}", there[0], values, lambda row: f"row {row}"), None)


def _from_npz(path: str, said: str) -> Scores:
    arrays = read_npz(path, said)
    kind = _kind(said, arrays, "")
    known = [f"{split}{name}" for split in ("", "test_") for name in (*KINDS, "labels")]
    for name in arrays:
        if name not in known:
            raise UserError(f"{said}: nothing is known of an array {quoted(name)}: leave it out.{nearest(name, known)}")
    fit = _rows(said, kind, "", arrays)
    test = None
    if any(name.startswith("test_") for name in arrays):
        if _kind(said, arrays, "test_") != kind:
            raise UserError(f"{said} has {kind} to fit on and others to test on: give both as {kind}.")
        test = _rows(said, kind, "test_", arrays)
    return _scores(said, kind, fit, test, [str(place) for place in range(fit.logits.shape[1])])


def _kind(said: str, arrays: dict[str, np.ndarray], prefix: str) -> str:
    """Whether a file has logits or probabilities."""
    there = [kind for kind in KINDS if f"{prefix}{kind}" in arrays]
    if len(there) == 2:
        raise UserError(f"{said} has {prefix}logits and {prefix}probabilities: give one of them.")
    missing = [] if there else [f"{prefix}logits"]
    missing += [] if f"{prefix}labels" in arrays else [f"{prefix}labels"]
    if missing:
        unknown = [name for name in arrays if name.removeprefix("test_") not in (*KINDS, "labels")]
        guess = (
            nearest(missing[0], unknown)
            or f" Name the arrays {prefix}logits or {prefix}probabilities, and {prefix}labels."
        )
        raise UserError(f"{said} has no {' and no '.join(missing)}; it has {listed(arrays)}.{guess}")
    return there[0]


def _rows(said: str, kind: str, prefix: str, arrays: dict[str, np.ndarray]) -> Rows:
    """The rows of a split, looked at one array after the other."""
    name = f"{prefix}{kind}"
    values = _numbers(said, name, arrays[name])
    labels = _labels(said, f"{prefix}labels", arrays[f"{prefix}labels"], *values.shape)
    return checked_rows(f"{said}: {name}", kind, values, labels, lambda row: f"row {row}")


def _numbers(said: str, name: str, array: np.ndarray) -> Float[np.ndarray, "N C"]:
    """An array of rows in float64."""
    if array.dtype.kind not in "fiu":
        raise UserError(f"{said}: {name} holds {array.dtype}: give numbers.")
    if array.ndim != 2 or array.shape[1] < 2:
        of_two = ", of two classes both, as in numpy.c_[0 * z, z]" if array.ndim < 3 else ""
        raise UserError(f"{said}: {name} has shape {array.shape}: give [N, C]{of_two}.")
    return array.astype(np.float64)


def _labels(said: str, name: str, array: np.ndarray, size: int, num_classes: int) -> Int[np.ndarray, " N"]:
    """Labels as int64 [N]; whole numbers in floats are taken, as tables with gaps have them."""
    if array.shape == (size, num_classes) and num_classes > 1:
        raise UserError(f"{said}: {name} has one column for each class: give the class of each row, {name}.argmax(1).")
    if array.dtype.kind not in "iufb":
        way_out = "give each row's class as an integer from 0, or a .csv, whose classes have names"
        raise UserError(f"{said}: {name} holds {array.dtype}: {way_out}.")
    if array.shape not in ((size,), (size, 1)):
        turned = ": rows are examples, so turn the logits round, logits.T" if array.shape == (num_classes,) else ""
        way_out = turned or ": give one class for each"
        raise UserError(f"{said}: {name} has shape {array.shape} for {size} rows{way_out}.")
    labels = array.reshape(size)
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int64)
    wrong = np.flatnonzero((whole != labels) | (whole < 0) | (whole >= num_classes))
    if len(wrong):
        from_one = whole.min() == 1 and whole.max() == num_classes
        raise UserError(
            f"{said}: {name} has {labels[wrong[0]]} in row {wrong[0]}, where classes are 0 to {num_classes - 1}"
            f"{f': count them from 0, {name} - 1' if from_one else ''}."
        )
    return whole


def _from_csv(path: str, said: str) -> Scores:
    table = read_columns(path, said, HEADER)
    kind = _kind_of_columns(table)
    names, classes = _columns_of_classes(table, kind)
    _check_columns(table, names)
    labels, values = _named_labels(table, classes), table.numbers(names)
    splits = np.array(table.texts("split") if "split" in table.names else ["calibration"] * len(labels), dtype=object)
    _check_splits(table, splits)
    found: dict[str, Rows] = {}
    for split in SPLITS:
        members = np.flatnonzero(splits == split)
        where = [f"line {table.lines[row]}" for row in members].__getitem__
        found[split] = checked_rows(f"{said}: {kind}", kind, values[members], labels[members], where)
    test = found["test"] if "test" in splits else None
    return _scores(said, kind, found["calibration"], test, classes)


def _kind_of_columns(table: Columns) -> str:
    there = [kind for kind in KINDS if any(name.startswith(PREFIXES[kind]) for name in table.names)]
    if len(there) == 1:
        return there[0]
    if there:
        raise UserError(f"{table.said} has columns of logits and of probabilities: give one of them.")
    raise UserError(
        f"{table.said} has no columns logit_<class> or probability_<class>; its first line is {listed(table.names)}, "
        f"where it has to name them, as in {HEADER}."
    )


def _columns_of_classes(table: Columns, kind: str) -> tuple[list[str], list[str]]:
    """The names of the columns that have logits or probabilities, and those of their classes."""
    names = [name for name in table.names if name.startswith(PREFIXES[kind])]
    classes = [name.removeprefix(PREFIXES[kind]) for name in names]
    if "" in classes:
        prefix = PREFIXES[kind]
        raise UserError(f"{table.said}: the column {quoted(prefix)} names no class: write {prefix}<class>.")
    if len(classes) < 2:
        raise UserError(
            f"{table.said} has one class, {quoted(names[0])}: give a column for each of two classes or more."
        )
    return names, classes


def _check_columns(table: Columns, names: Sequence[str]) -> None:
    known = [*names, "label", "split"]
    if "label" not in table.names:
        raise UserError(f"{table.said} has no column 'label'.{nearest('label', set(table.names) - set(known))}")
    for name in table.names:
        if name not in known:
            way_out = "leave it out" if name else "leave it out, as to_csv(…, index=False) of pandas does"
            raise UserError(f"{table.said}: nothing is known of a column {quoted(name)}: {way_out}.")


def _check_splits(table: Columns, splits: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isin(splits, SPLITS))
    if len(wrong):
        line, split = table.lines[wrong[0]], splits[wrong[0]]
        raise UserError(
            f"{table.said}, line {line}: split is {quoted(split)}: calibration or test.{nearest(split, SPLITS)}"
        )


def _named_labels(table: Columns, classes: Sequence[str]) -> Int[np.ndarray, " N"]:
    """Labels by the names of classes; where none is one, by their places."""
    texts = table.texts("label")
    places = {name: place for place, name in enumerate(classes)}
    if not any(_place(text, places) is not None for text in texts):
        places = {str(place): place for place in range(len(classes))}
    found = [_place(text, places) for text in texts]
    for line, text, place in zip(table.lines, texts, found, strict=True):
        if place is None:
            raise UserError(
                f"{table.said}, line {line}: the label {quoted(text)} is none of the columns' classes, "
                f"{listed(places)}.{nearest(text, places)}"
            )
    return np.array(found, dtype=np.int64)


def _place(text: str, places: Mapping[str, int]) -> int | None:
    """The place of a class, also of one whose number is written as 3.0: tables with gaps have it so."""
    return places.get(text, places.get(text.removesuffix(".0")))


def _scores(said: str, kind: str, fit: Rows, test: Rows | None, classes: Sequence[str]) -> Scores:
    if len(fit) < FEWEST:
        raise UserError(f"{said} has {len(fit)} rows to fit on: give {FEWEST} or more.")
    if test is not None and test.logits.shape[1] != fit.logits.shape[1]:
        raise UserError(
            f"{said} has {fit.logits.shape[1]} classes to fit on and {test.logits.shape[1]} to test on: give the same."
        )
    if test is not None and not len(test):
        raise UserError(f"{said} has no rows to test on: leave the test arrays out.")
    doubts = []
    if kind == "logits" and _is_like_probabilities(fit.logits):
        doubts.append(
            f"{said}: the logits look like probabilities, each row within 0…1 and adding up to 1; name them so."
        )
    if len(np.unique(fit.labels)) == 1:
        name = quoted(classes[fit.labels[0]])
        doubts.append(f"{said}: every row to fit on has the label {name}: what is fitted to them knows no other class.")
    if test is not None and _are_the_same(fit, test):
        doubts.append(f"{said}: the rows to test on are those to fit on, and flatter every calibrator; give others.")
    return Scores(fit, test, tuple(classes), " ".join(doubts))


def _is_like_probabilities(values: np.ndarray) -> bool:
    return bool((values >= 0).all() and (np.abs(values.sum(1) - 1) <= SUM).all())


def _are_the_same(fit: Rows, test: Rows) -> bool:
    """Whether all rows are equal, in order: single ones recur among the few outputs of a tree."""
    return np.array_equal(fit.logits, test.logits) and np.array_equal(fit.labels, test.labels)
