"""`poise calibrate`: from a file of anybody's logits to a table and calibrated probabilities."""

import io
import random
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from poise.calibration import FOLDS, folds
from poise.cli import main
from poise.files.scores import FEWEST, read_scores
from poise.metrics import CalibrationError
from poise.progress import Progress, no_progress
from poise_recipes.calibration.temperature_scaling import solve_temperature

CLASSES, ROWS, TESTS = 3, 60, 40
ONE = "calibration=temperature_scaling"

Run = Callable[..., tuple[int, str, str]]


def draw(size: int, seed: int, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too large by a factor, and labels drawn from what they should be."""
    generator = np.random.default_rng(seed)
    honest = generator.normal(size=(size, CLASSES))
    probabilities = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = (probabilities.cumsum(1) > generator.random((size, 1))).argmax(1)
    return sharpness * honest, labels


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


LOGITS, LABELS = draw(ROWS, 0)
TEST_LOGITS, TEST_LABELS = draw(TESTS, 1)
FIT = {"logits": LOGITS, "labels": LABELS}
TEST = {"test_logits": TEST_LOGITS, "test_labels": TEST_LABELS}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `poise calibrate …` in an empty directory; gives the exit code and what was said."""
    monkeypatch.chdir(tmp_path)

    def act(*words: str) -> tuple[int, str, str]:
        code = main(["calibrate", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return act


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Runs `poise calibrate …`, which has to end in one line and to leave nothing behind; gives the line."""

    def act(*words: str) -> str:
        before = sorted(Path().iterdir())
        code, out, err = run(*words)
        assert (code, out) == (2, "")
        assert sorted(Path().iterdir()) == before
        (line,) = err.splitlines()
        return line

    return act


def row(out: str, name: str) -> list[str]:
    """The values in a row of the table, without marks."""
    line = next(line for line in out.splitlines() if line.startswith(f"│ {name} "))
    return [cell.strip(" *") for cell in line.strip("│").split("│")[1:]]


def write_csv(path: str, header: str, rows: list[list[object]]) -> None:
    Path(path).write_text("\n".join([header, *(",".join(map(str, cells)) for cells in rows)]) + "\n")


def test_on_test_rows_it_measures_what_was_fitted_to_the_others(run: Run) -> None:
    np.savez("scores.npz", **FIT, **TEST)
    code, out, err = run("logits=scores.npz", ONE)
    assert code == 0
    assert err == f"scores.npz: 3 classes, {ROWS} rows to fit on, {TESTS} to test on\n"
    assert f"test: {TESTS} rows that nothing was fitted to" in out
    temperature, _ = solve_temperature(torch.from_numpy(LOGITS), torch.from_numpy(LABELS), 0.01, 100.0)
    assert f"Fitted: temperature_scaling, T = {temperature:.4g}.\n" in out
    for place, logits in enumerate((TEST_LOGITS, TEST_LOGITS / temperature)):
        probabilities = softmax(logits)
        own = probabilities[np.arange(TESTS), TEST_LABELS]
        off = probabilities - np.eye(CLASSES)[TEST_LABELS]
        ece = CalibrationError()
        ece.update(torch.from_numpy(logits), torch.from_numpy(TEST_LABELS))
        assert row(out, "accuracy")[place] == f"{100 * (logits.argmax(1) == TEST_LABELS).mean():.2f} %"
        assert row(out, "nll")[place] == f"{-np.log(own).mean():.4f}"
        assert row(out, "brier")[place] == f"{(off**2).sum(1).mean():.4f}"
        assert row(out, "ece")[place] == f"{float(ece.compute()):.4f}"
    for name in ("ece_equal_mass", "classwise_ece"):
        before, after = map(float, row(out, name))
        assert before > after
    assert "temperature_scaling changes no predicted class." in out
    assert "temperature_scaling is shipped, the only calibrator" in out


def test_without_test_rows_each_row_is_measured_by_what_was_fitted_without_it(run: Run) -> None:
    np.savez("scores.npz", **FIT)
    code, out, _ = run("logits=scores.npz", ONE)
    assert code == 0
    assert "cross-validated" in out
    logits, labels = torch.from_numpy(LOGITS), torch.from_numpy(LABELS)
    fold = folds(labels)
    assert fold.unique().tolist() == list(range(FOLDS))
    crossed = torch.empty_like(logits)
    for left_out in range(FOLDS):
        temperature, _ = solve_temperature(logits[fold != left_out], labels[fold != left_out], 0.01, 100.0)
        crossed[fold == left_out] = logits[fold == left_out] / temperature
    nll = torch.nn.functional.cross_entropy(crossed, labels)
    assert row(out, "nll")[1] == f"{float(nll):.4f}"
    assert FEWEST >= 2 * FOLDS


def test_several_are_compared_and_one_is_shipped(run: Run) -> None:
    np.savez("scores.npz", **FIT)
    for words in ([], ["recipe=h_calibration,temperature_scaling"]):
        code, out, _ = run("logits=scores.npz", "calibration.h_calibration.steps=3", *words)
        assert code == 0
        assert len(row(out, "nll")) == 3
        assert re.search(r"(\w+) is shipped, the calibrator with the lowest cross-validated NLL on 60", out)


def test_parameters_reach_the_calibrator(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    np.savez("scores.npz", **FIT, **TEST)
    code, out, _ = run("logits=scores.npz", f"{ONE}@mine", "calibration.mine.highest=1.5", "out=found.npz")
    assert code == 0
    assert "mine changes no predicted class." in out
    assert "T = 1.5 is a bound" in caplog.text
    np.testing.assert_allclose(np.load("found.npz")["test_probabilities"], softmax(TEST_LOGITS / 1.5), atol=1e-12)


def test_nothing_fitted_is_measured_as_it_is(run: Run) -> None:
    np.savez("scores.npz", **FIT)
    code, out, _ = run("logits=scores.npz", "calibration=none")
    assert code == 0
    assert len(row(out, "nll")) == 1


def test_what_is_written_is_what_is_shipped_and_can_be_read_again(run: Run) -> None:
    np.savez("scores.npz", **FIT, **TEST)
    temperature, _ = solve_temperature(torch.from_numpy(LOGITS), torch.from_numpy(LABELS), 0.01, 100.0)
    for out in ("found.npz", "found.csv"):
        code, said, _ = run("logits=scores.npz", ONE, f"out={out}")
        assert code == 0
        assert f"{out} has the probabilities of temperature_scaling." in said
        again = read_scores(out, out)
        np.testing.assert_allclose(again.fit.logits, np.log(softmax(LOGITS / temperature)), atol=1e-9)
        assert again.test is not None
        np.testing.assert_allclose(again.test.logits, np.log(softmax(TEST_LOGITS / temperature)), atol=1e-9)
        assert again.fit.labels.tolist() == LABELS.tolist()
        assert again.test.labels.tolist() == TEST_LABELS.tolist()
        before = row(run(f"logits={out}", "calibration=none")[1], "nll")
        assert before == row(said, "nll")[1:]
    assert sorted(np.load("found.npz")) == ["labels", "probabilities", "test_labels", "test_probabilities"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ">f8", np.int64])
def test_numbers_of_any_type_are_taken(run: Run, dtype: str) -> None:
    np.savez("scores.npz", logits=LOGITS.round().astype(dtype), labels=LABELS.astype(np.uint8))
    assert read_scores("scores.npz", "").fit.logits.tolist() == LOGITS.round().tolist()
    assert run("logits=scores.npz", ONE)[0] == 0


def test_probabilities_are_as_good_as_logits(run: Run) -> None:
    np.savez("logits.npz", **FIT)
    np.savez("probabilities.npz", probabilities=softmax(LOGITS), labels=LABELS)
    tables = [run(f"logits={name}.npz", ONE)[1] for name in ("logits", "probabilities")]
    assert tables[0] == tables[1]


def test_labels_as_tables_have_them(run: Run) -> None:
    for labels in (LABELS.astype(float), LABELS[:, None]):
        np.savez("scores.npz", logits=LOGITS, labels=labels)
        assert read_scores("scores.npz", "").fit.labels.tolist() == LABELS.tolist()


def test_classes_that_are_ruled_out_stay_so(run: Run) -> None:
    logits = LOGITS.copy()
    logits[np.arange(ROWS), (LABELS + 1) % CLASSES] = -np.inf
    np.savez("scores.npz", logits=logits, labels=LABELS)
    assert run("logits=scores.npz", ONE, "out=found.npz")[0] == 0
    found = np.load("found.npz")["probabilities"]
    assert (found[np.arange(ROWS), (LABELS + 1) % CLASSES] == 0).all()


def test_rows_to_test_on_that_were_fitted_to_are_doubted(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    again = {f"test_{name}": values.copy() for name, values in FIT.items()}
    np.savez("scores.npz", **FIT, **again)
    code, out, _ = run("logits=scores.npz", ONE)
    assert code == 0
    assert f"test: {ROWS} rows that were fitted to" in out
    assert caplog.text.count("the rows to test on are those to fit on") == 1
    again["test_logits"][0] += 1
    np.savez("others.npz", **FIT, **again)
    assert not read_scores("others.npz", "").doubt


def test_rows_of_one_class_are_doubted(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    np.savez("scores.npz", logits=LOGITS, labels=0 * LABELS)
    assert run("logits=scores.npz", ONE)[0] == 0
    assert "every row to fit on has the label '0': what is fitted to them knows no other class." in caplog.text


def test_logits_that_look_like_probabilities_are_doubted(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    np.savez("scores.npz", logits=softmax(LOGITS), labels=LABELS)
    assert run("logits=scores.npz", ONE)[0] == 0
    assert "the logits look like probabilities" in caplog.text


def test_a_table_by_names_of_classes(run: Run) -> None:
    names = ["cat", "dog", "great tit"]
    rows = [["calibration", names[y], *z] for z, y in zip(LOGITS, LABELS, strict=True)]
    rows += [["test", names[y], *z] for z, y in zip(TEST_LOGITS, TEST_LABELS, strict=True)]
    write_csv("scores.csv", "split,label," + ",".join(f"logit_{name}" for name in names), rows)
    np.savez("scores.npz", **FIT, **TEST)
    assert read_scores("scores.csv", "").classes == tuple(names)
    same = [run(f"logits=scores.{kind}", ONE)[1] for kind in ("csv", "npz")]
    assert same[0] == same[1]
    assert run("logits=scores.csv", ONE, "out=found.csv")[0] == 0
    header, first = Path("found.csv").read_text().splitlines()[:2]
    assert header == "split,label,probability_cat,probability_dog,probability_great tit"
    assert first.startswith(f"calibration,{names[LABELS[0]]},0.")


@pytest.mark.parametrize(("classes", "first"), [("0 1 2", 0), ("1 2 3", 1), ("a b c", 0)])
@pytest.mark.parametrize("form", ["{}", "{}.0"])
def test_a_table_by_numbers_of_classes(run: Run, classes: str, first: int, form: str) -> None:
    """A name that is a number is that name; where names are words, a number is a place."""
    header = "label," + ",".join(f"logit_{name}" for name in classes.split())
    write_csv("scores.csv", header, [[form.format(y + first), *z] for z, y in zip(LOGITS, LABELS, strict=True)])
    assert read_scores("scores.csv", "").fit.labels.tolist() == LABELS.tolist()


ODD = LOGITS.copy()
ODD[5, 1] = np.nan
ENDLESS = LOGITS.copy()
ENDLESS[[7, 9], 0] = np.inf
GUILTY = LOGITS.copy()
GUILTY[3, LABELS[3]] = -np.inf
HUGE = LOGITS.copy()
HUGE[2, 0] = -1e31
SUMS = softmax(LOGITS)
SUMS[4] *= 1.5
NEGATIVE = softmax(LOGITS)
NEGATIVE[6] = [-0.1, 0.6, 0.5]
HALF = LABELS + 0.5
BEYOND = np.where(np.arange(ROWS) == 8, 3, LABELS)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS}, "logits=scores.npz has no logits; it has labels. Name the arrays"),
        ({"logits": LOGITS}, "logits=scores.npz has no labels; it has logits. Name the arrays"),
        ({"y": LABELS, "logit": LOGITS}, "has no logits and no labels; it has y, logit. Did you mean 'logit'?"),
        ({}, "it has nothing. Name the arrays logits or probabilities, and labels."),
        ({**FIT, "probabilities": softmax(LOGITS)}, "has logits and probabilities: give one of them."),
        ({**FIT, "features": LOGITS}, "nothing is known of an array 'features': leave it out."),
        ({**FIT, "test_logit": LOGITS}, "nothing is known of an array 'test_logit': leave it out. Did you mean 'test_"),
        ({**FIT, "test_logits": LOGITS}, "has no test_labels; it has logits, labels, test_logits. Name the arrays"),
        (
            {**FIT, "test_probabilities": softmax(LOGITS), "test_labels": LABELS},
            "has logits to fit on and others to test on: give both as logits.",
        ),
        ({"logits": ODD, "labels": LABELS}, "logits=scores.npz: logits: row 5 is not finite."),
        ({"logits": ENDLESS, "labels": LABELS}, "logits: row 7 is not finite (2 of 60 do)."),
        (
            {"logits": GUILTY, "labels": LABELS},
            "logits: row 3 rules its own class out; where 0 is a rounded probability, clip it",
        ),
        ({"logits": HUGE, "labels": LABELS}, "logits: row 2 has a logit beyond 1e+30."),
        ({**FIT, "test_logits": ODD, "test_labels": LABELS}, "test_logits: row 5 is not finite."),
        (
            {"logits": LOGITS[:, 0], "labels": LABELS},
            "logits has shape (60,): give [N, C], of two classes both, as in numpy.c_",
        ),
        (
            {"logits": LOGITS[:, :1], "labels": LABELS},
            "logits has shape (60, 1): give [N, C], of two classes both, as in numpy.c_",
        ),
        ({"logits": LOGITS[None], "labels": LABELS}, "logits has shape (1, 60, 3): give [N, C]."),
        ({"logits": LOGITS.astype(str), "labels": LABELS}, "logits holds <U32: give numbers."),
        ({"logits": LOGITS + 0j, "labels": LABELS}, "logits holds complex128: give numbers."),
        ({"logits": LOGITS, "labels": LABELS[:-1]}, "labels has shape (59,) for 60 rows: give one class for each."),
        ({"logits": LOGITS, "labels": np.eye(3)[LABELS]}, "has one column for each class: give the class of each row"),
        ({"logits": LOGITS, "labels": LABELS.astype(str)}, "labels holds <U21: give each row's class as an integer"),
        ({"logits": LOGITS, "labels": HALF}, f"labels has {HALF[0]} in row 0, where classes are 0 to 2."),
        ({"logits": LOGITS, "labels": BEYOND}, "labels has 3 in row 8, where classes are 0 to 2."),
        ({"logits": LOGITS, "labels": LABELS - 1}, "labels has -1 in row"),
        ({"logits": LOGITS, "labels": LABELS + 1}, "where classes are 0 to 2: count them from 0, labels - 1."),
        ({"logits": LOGITS.T, "labels": LABELS}, "for 3 rows: rows are examples, so turn the logits round, logits.T."),
        ({"logits": LOGITS, "labels": np.full(ROWS, np.nan)}, "labels has nan in row 0"),
        ({"probabilities": SUMS, "labels": LABELS}, "probabilities: row 4 has probabilities that do not add up to 1."),
        ({"probabilities": LOGITS, "labels": LABELS}, "has a negative probability"),
        ({"probabilities": NEGATIVE, "labels": LABELS}, "probabilities: row 6 has a negative probability."),
        ({"probabilities": ODD, "labels": LABELS}, "probabilities: row "),
        ({"logits": LOGITS[:9], "labels": LABELS[:9]}, "has 9 rows to fit on: give 10 or more."),
        ({**FIT, "test_logits": LOGITS[:0], "test_labels": LABELS[:0]}, "has no rows to test on"),
        (
            {**FIT, "test_logits": LOGITS[:, :2], "test_labels": 0 * LABELS},
            "has 3 classes to fit on and 2 to test on: give the same.",
        ),
        ({"logits": np.array([object()]), "labels": LABELS}, "holds an array of Python objects, which may run code"),
    ],
)
def test_arrays_that_are_none(refused: Callable[..., str], arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez("scores.npz", **arrays)
    assert message in refused("logits=scores.npz", ONE, "out=found.npz")


HEADER = "label,logit_a,logit_b"
GOOD = [["a", 1.0, 0.5]] * 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: its first line names the columns, as in label,logit_cat,logit_dog."),
        (HEADER, "has 0 rows to fit on: give 10 or more."),
        (
            "label,a,b\na,1,2\n",
            "has no columns logit_<class> or probability_<class>; its first line is label, a, b, where it has to name",
        ),
        ("lable,logit_a,logit_b\na,1,2\n", "has no column 'label'. Did you mean 'lable'?"),
        ("label;logit_a;logit_b\na;1,5;2\n", "has semicolons between its columns: separate columns by commas."),
        ("label\tlogit_a\tlogit_b\na\t1\t2\n", "has tabs between its columns: separate columns by commas."),
        ("label,logit_,logit_b\nb,1,2\n", "the column 'logit_' names no class: write logit_<class>."),
        ("label,logit_a\na,1\n", "has one class, 'logit_a': give a column for each of two classes or more."),
        (f"{HEADER},logit_a\na,1,2,3\n", "two columns are called 'logit_a'."),
        (f"{HEADER},id\na,1,2,3\n", "nothing is known of a column 'id': leave it out."),
        (f",{HEADER}\n0,a,1,2\n", "nothing is known of a column '': leave it out, as to_csv(…, index=False) of pandas"),
        (f"{HEADER},probability_a\na,1,2,3\n", "has columns of logits and of probabilities: give one of them."),
        (f"{HEADER}\na,1,2\na,1\n", "line 3 has 2 cells for 3 columns."),
        (f"{HEADER}\na,1,2\n\na,1,x\n", "line 4: 'x' in column 'logit_b' is no number."),
        (f"{HEADER}\na,1,\n", "line 2: '' in column 'logit_b' is no number."),
        (f"{HEADER}\na,1,2\nb,nan,2\n", "logits: line 3 is not finite."),
        (f"{HEADER}\nc,1,2\na,1,2\n", "line 2: the label 'c' is none of the columns' classes, a, b."),
        (f"{HEADER},split\na,1,2,train\n", "line 2: split is 'train': calibration or test."),
        (f"{HEADER},split\na,1,2,tets\n", "split is 'tets': calibration or test. Did you mean 'test'?"),
        *(
            (first, "holds numbers, where it has to name the columns: write a line above it, as in label,logit_cat,")
            for first in ("0.3,0.7,1\n0.2,0.8,0\n", "cat,0.5,0.5\ndog,1,2\n", "1,-3,cat\n", "nan,1,cat\n", "3,3,1\n")
        ),
        ("cat,3,1\ndog,1,2\n", "its first line is cat, 3, 1, where it has to name them, as in label,logit_cat,"),
        (f'{HEADER}\n"a,1,2\n', "is no .csv file of text"),
        (f"{HEADER}\n\0", "scores.csv"),
    ],
)
def test_tables_that_are_none(refused: Callable[..., str], text: str, message: str) -> None:
    Path("scores.csv").write_text(text)
    assert message in refused("logits=scores.csv", ONE, "out=found.csv")


def test_a_table_in_another_encoding(refused: Callable[..., str]) -> None:
    Path("scores.csv").write_bytes(f"{HEADER}\nä,1,2\n".encode("latin-1"))
    assert "logits=scores.csv is no .csv file of text" in refused("logits=scores.csv", ONE)


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["logits=missing.npz"], ["logits=missing.npz: there is no such file."]),
        (["logits=score.npz"], ["logits=score.npz: there is no such file. Did you mean 'scores.npz'?"]),
        (["logits=/dev/null"], ["logits=/dev/null: this is no regular file."]),
        (["logits=astray.npz"], ["logits=astray.npz: this links to away.npz, which is not there."]),
        (["logits=nowhere/a.npz"], ["logits=nowhere/a.npz: there is no such file. There is no nowhere."]),
        (["logits=folder"], ["logits=folder is a directory: give a file, .npz or .csv."]),
        (["logits=cut.npz"], ["logits=cut.npz is no .npz archive of arrays"]),
        (["logits=text.npz"], ["logits=text.npz is no .npz archive of arrays: write one with numpy.savez."]),
        (["logits=scores.pt"], ["a .pt file may run code when it is read, so poise does not: numpy.savez("]),
        (["logits=scores.txt"], ["the name of the file says no kind that is read here, which are .npz or .csv."]),
        ([], ["logits= is missing: give a file, .npz or .csv."]),
        (["logits="], ["logits= is empty: give a value, or leave it out."]),
        (["logits=scores.npz", "out=found.txt"], ["out=found.txt: the name of the file has to end in .npz or .csv."]),
        (["logits=scores.npz", "out=scores.npz"], ["out=scores.npz is the file that is read. Give another name."]),
        (["logits=scores.npz", "out=scores.pt"], ["out=scores.pt is there already, and nothing is overwritten."]),
        (["logits=scores.npz", "out=folder"], ["out=folder is a directory: give the name of a file"]),
        (["logits=scores.npz", f"out={'a' * 300}.csv"], ["… cannot be written: File name too long."]),
        (["logits=scores.npz", "out=away/a.csv"], ["out=away/a.csv: there is no directory away."]),
        (["logits=scores.npz", "logits=scores.npz"], ["logits is given twice"]),
        (
            ["logits=scores.npz", "calibratoin=x"],
            ["poise calibrate has no 'calibratoin': logits=, out=, save=, figures=, bootstrap=, calibration=."],
        ),
        (["logits=scores.npz", "trainer.seed=1"], ["poise calibrate has no 'trainer.seed'"]),
        (["logits=scores.npz", "scores"], ["'scores' is not of the form path=value"]),
        (
            ["logits=scores.npz", "calibration=temperature"],
            ["there is no calibrator called 'temperature'. Did you mean"],
        ),
        (["logits=scores.npz", "recipe=trades"], ["recipe=trades: trades is a recipe, which trains. Calibrators are"]),
        (["logits=scores.npz", "recipe=mixup,temperature_scaling"], ["recipe=mixup: mixup is a recipe, which trains."]),
        (["logits=scores.npz", ONE, "recipe=h_calibration"], ["recipe= and calibration= are both given"]),
        (
            ["logits=scores.npz", ONE, "recipe.temperature_scaling.lowest=1"],
            ["nothing is trained here. Did you mean calibration.temperature_scaling.lowest?"],
        ),
        (
            ["logits=scores.npz", ONE, "calibration.temperature_scaling.lwest=1"],
            ["temperature_scaling has no parameter 'lwest'. Did you mean 'lowest'?"],
        ),
        (
            ["logits=scores.npz", ONE, "calibration.h_calibration.steps=1"],
            ["'h_calibration' is not in calibration=temperature_scaling."],
        ),
        (["logits=scores.npz", ONE, "calibration.temperature_scaling.lowest=-1"], ["has to be above 0"]),
        (["logits=scores.npz", f"{ONE}@uncalibrated"], ["@uncalibrated: reports call something else so."]),
        (
            ["logits=missing.npz", "calibration=none", "oot=1", "out=found.txt"],
            ["poise calibrate has no 'oot'", "logits=missing.npz: there is no such file", "out=found.txt"],
        ),
    ],
)
def test_what_is_asked_wrongly(run: Run, words: list[str], messages: list[str]) -> None:
    np.savez("scores.npz", **FIT)
    Path("astray.npz").symlink_to("away.npz")
    Path("cut.npz").write_bytes(Path("scores.npz").read_bytes()[:500])
    for name in ("text.npz", "scores.pt", "scores.txt"):
        Path(name).write_text("a text")
    Path("folder").mkdir()
    before = sorted(Path().iterdir())
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == len(messages), err
    for line, message in zip(err.splitlines(), messages, strict=True):
        assert message in line
    assert sorted(Path().iterdir()) == before


def test_a_place_that_goes_away_meanwhile_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez("scores.npz", **FIT)
    Path("folder").mkdir()

    def removing(shown: bool) -> Progress:
        shutil.rmtree("folder", ignore_errors=True)
        return no_progress

    monkeypatch.setattr("poise.calibrating.progress_bar", removing)
    code, _, err = run("logits=scores.npz", ONE, "out=folder/found.npz")
    assert code == 2
    assert err.splitlines()[-1] == "out=folder/found.npz cannot be written: No such file or directory."


@pytest.mark.parametrize("name", ["matrix_scaling", "dirichlet", "h_calibration"])
def test_a_bar_moves_while_a_long_fit_is_under_way(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    np.savez("scores.npz", **FIT)
    totals: dict[str, int] = {}
    told: dict[str, list[float]] = {}

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Callable[[float], None]]:
        totals[title], told[title] = total, []
        yield told[title].append

    monkeypatch.setattr("poise.calibrating.progress_bar", lambda shown: bar)
    assert run("logits=scores.npz", f"calibration={name}", "bootstrap=100")[0] == 0
    assert totals == {"fit calibrators": 1, "cross-validate": FOLDS, "draw resamples": 100}
    for title, total in totals.items():
        assert sum(told[title]) == pytest.approx(total)
        assert min(told[title]) > -1e-9
    assert len(told["fit calibrators"]) > 3
    assert len(told["cross-validate"]) > 3 * FOLDS


def test_the_examples_of_the_help_are_right(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("scores.npz", **FIT)
    write_csv("scores.csv", HEADER, GOOD)
    main(["calibrate", "--help"])
    examples = capsys.readouterr().out.partition("Examples")[2].split("poise calibrate")[1:]
    assert len(examples) == 4
    np.savez("new.npz", logits=LOGITS)
    for example in examples:
        words = example.split()
        own = ONE in words or "apply" in words
        assert run(*words, *([] if own else ["calibration.h_calibration.steps=1"]))[0] == 0


def flipped(data: bytes, chance: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    return bytes(found)


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def spliced(data: bytes, chance: random.Random) -> bytes:
    start, end, place = (chance.randrange(len(data)) for _ in range(3))
    return data[:place] + data[min(start, end) : max(start, end)] + data[place:]


def inside(change: Callable[[bytes, random.Random], bytes]) -> Callable[[bytes, random.Random], bytes]:
    """A change to an array within the archive, whose checksums hold."""

    def changed(data: bytes, chance: random.Random) -> bytes:
        written = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(written, "w") as new:
            chosen = chance.choice(old.namelist())
            for name in old.namelist():
                new.writestr(name, change(old.read(name), chance) if name == chosen else old.read(name))
        return written.getvalue()

    return changed


PLAIN = (flipped, cut, spliced)


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_a_damaged_file_gives_numbers_or_one_line(run: Run, kind: str) -> None:
    chance = random.Random(0)
    if kind == "npz":
        np.savez(
            "good.npz", logits=LOGITS[:20], labels=LABELS[:20], test_logits=LOGITS[20:30], test_labels=LABELS[20:30]
        )
        changes = (*PLAIN, *map(inside, PLAIN), inside(flipped))
    else:
        rows = [[y, *z.round(3)] for z, y in zip(LOGITS[:30], LABELS, strict=False)]
        write_csv("good.csv", "label,logit_0,logit_1,logit_2", rows)
        changes = PLAIN
    good = Path(f"good.{kind}").read_bytes()
    ends = {0: 0, 2: 0}
    for number in range(200):
        Path(f"bad.{kind}").write_bytes(chance.choice(changes)(good, chance))
        code, out, err = run(f"logits=bad.{kind}", ONE, f"out=found.{kind}")
        assert code in ends, (number, err)
        ends[code] += 1
        if code == 0:
            assert not re.search(r"\b(nan|inf)\b", out), number
            again = read_scores(f"found.{kind}", "")
            assert np.isfinite(again.fit.logits[np.arange(len(again.fit)), again.fit.labels]).all()
            Path(f"found.{kind}").unlink()
        else:
            assert out == "", number
            assert len(err.splitlines()) == 1, (number, err)
            assert sorted(path.name for path in Path().iterdir()) == [f"bad.{kind}", f"good.{kind}"]
    assert min(ends.values()) > 10


def test_what_it_says_in_words(run: Run) -> None:
    np.savez("scores.npz", **FIT, **TEST)
    code, out, _ = run("logits=scores.npz", ONE, "--explain")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    out = re.sub(r"\n +", " ", out)
    confidence, accuracy = row(out, "confidence")[0].rstrip(" %"), row(out, "accuracy")[0].rstrip(" %")
    over = float(confidence) - float(accuracy)
    assert f"- uncalibrated: {float(confidence):.1f} % sure and {float(accuracy):.1f} % right: over-confident" in out
    assert over > 10
    assert "temperature_scaling changes it by -0." in out
    assert "these rows cannot tell whether it is better than the model as it is" in out  # 40 rows
    plain = run("logits=scores.npz", ONE)[1]
    assert "What this says" not in plain
    assert re.search(r"^temperature_scaling changes the NLL by -0.\d+ ± 0.\d+ \(95 %\): these rows cannot", plain, re.M)
    logits, labels = draw(400, 2)
    np.savez("many.npz", logits=logits, labels=labels)
    assert "cannot" not in run("logits=many.npz", ONE)[1]


def test_grave_doubts_are_said_in_any_case_and_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    np.savez("right.npz", logits=LOGITS, labels=LOGITS.argmax(1))
    assert run("logits=right.npz", ONE)[0] == 0
    assert "Every one of the 60 rows to fit on is predicted right." in caplog.text
    caplog.clear()
    _, out, _ = run("logits=right.npz", ONE, "--explain")
    assert "Every one of the 60 rows to fit on is predicted right." in out
    assert "Every one" not in caplog.text


def test_a_diagram_is_drawn(run: Run) -> None:
    np.savez("scores.npz", **FIT)
    code, out, _ = run("logits=scores.npz", ONE, "figures=pictures/mine")
    assert code == 0
    picture = Path("pictures/mine/reliability.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert out.endswith("pictures/mine/reliability.png has a reliability diagram of each column.\n")
    picture.write_text("mine")
    refusal = f"figures=pictures/mine: {picture} is there already, and nothing is overwritten."
    assert run("logits=scores.npz", "figures=pictures/mine")[2].startswith(refusal)
    assert picture.read_text() == "mine"
    Path("file").touch()
    for figures in ("file", "file/below/it"):
        said = run("logits=scores.npz", f"figures={figures}")[2]
        assert said == f"figures={figures}: file is no directory. Give another name.\n"


def test_what_cannot_be_written_costs_neither_the_table_nor_the_rest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez("scores.npz", **FIT)

    def meanwhile(shown: bool) -> Progress:
        Path("found.npz").write_text("of somebody else")
        return no_progress

    monkeypatch.setattr("poise.calibrating.progress_bar", meanwhile)
    code, out, err = run("logits=scores.npz", ONE, "out=found.npz", "save=kept.safetensors", "figures=.")
    assert code == 2
    assert err.splitlines()[1:] == ["out=found.npz cannot be written: found.npz is there by now."]
    assert Path("found.npz").read_text() == "of somebody else"
    assert row(out, "nll")
    assert Path("kept.safetensors").is_file()
    assert Path("reliability.png").is_file()


def test_a_calibrator_that_is_kept_gives_new_logits_what_it_would_have_given(run: Run) -> None:
    np.savez("scores.npz", **FIT, **TEST)
    assert run("logits=scores.npz", ONE, "out=whole.npz", "save=kept.safetensors")[0] == 0
    np.savez("new.npz", logits=TEST_LOGITS)
    write_csv("new.csv", "logit_a,logit_b,logit_c", TEST_LOGITS.tolist())
    for given, out in (("new.npz", "found.npz"), ("new.csv", "found.csv"), ("scores.npz", "labelled.npz")):
        code, said, _ = run("calibrator=kept.safetensors", f"logits={given}", f"out={out}", "apply")
        assert (code, said.startswith(f"{out} has the probabilities of temperature_scaling for ")) == (0, True)
        assert ("kept.safetensors numbers its classes" in said) == (given == "new.csv")
    whole = np.load("whole.npz")
    assert np.array_equal(np.load("found.npz")["probabilities"], whole["test_probabilities"])
    assert np.array_equal(np.load("labelled.npz")["probabilities"], whole["probabilities"])
    lines = Path("found.csv").read_text().splitlines()
    assert lines[0] == "probability_0,probability_1,probability_2"
    np.testing.assert_allclose(
        [list(map(float, line.split(","))) for line in lines[1:]], whole["test_probabilities"], atol=1e-15
    )


@pytest.mark.parametrize("classes", ["abc", "012"])
def test_classes_in_another_order_are_taken_by_their_names(run: Run, classes: str) -> None:
    named = ",".join(f"logit_{name}" for name in classes)
    write_csv("scores.csv", f"label,{named}", [[classes[y], *z] for z, y in zip(LOGITS, LABELS, strict=True)])
    assert run("logits=scores.csv", "calibration=vector_scaling", "save=kept.safetensors", "out=whole.npz")[0] == 0
    order = [2, 0, 1]
    write_csv("new.csv", ",".join(f"logit_{classes[place]}" for place in order), LOGITS[:, order].tolist())
    told = "new.csv has the classes in another order than kept.safetensors: they are taken by their names."
    for out in ("found.npz", "found.csv"):
        code, said, _ = run("apply", "calibrator=kept.safetensors", "logits=new.csv", f"out={out}")
        assert (code, said.splitlines()[1]) == (0, told)
    wanted = np.load("whole.npz")["probabilities"][:, order]
    np.testing.assert_allclose(np.load("found.npz")["probabilities"], wanted, rtol=1e-12)
    header, first = Path("found.csv").read_text().splitlines()[:2]
    assert header == ",".join(f"probability_{classes[place]}" for place in order)
    np.testing.assert_allclose(list(map(float, first.split(","))), wanted[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["calibrator=kept.safetensors", "logits=two.npz", "out=o.npz"],
            "fitted to 3 classes, and logits=two.npz has 2",
        ),
        (
            ["calibrator=kept.safetensors", "logits=named.csv", "out=o.npz"],
            "has a class 'd', to which kept.safetensors was not fitted: its classes are a, b, c.",
        ),
        (
            ["calibrator=kept.safetensors", "logits=fewer.csv", "out=o.npz"],
            "fitted to 3 classes, and logits=fewer.csv has 2: there is none of b.",
        ),
        (["calibrator=no.safetensors", "logits=two.npz", "out=o.npz"], "calibrator=no.safetensors: there is no"),
        (
            ["calibrator=other.safetensors", "logits=two.npz", "out=o.npz"],
            "other.safetensors holds no calibrator: poise",
        ),
        (["calibrator=broken.safetensors", "logits=two.npz", "out=o.npz"], "broken.safetensors cannot be read: "),
        (["calibrator=kept.safetensors", "logits=two.npz"], "out= is missing: give a file for the probabilities"),
        (["calibrator=kept.safetensors", "logits=bare.npz", "out=o.npz"], "give an array `logits` or `probabilities`"),
        (["calibrator=kept.safetensors", "logits=two.npz", "out=o.npz", "save=x"], "apply has no 'save'"),
    ],
)
def test_what_is_not_applied(run: Run, refused: Callable[..., str], words: list[str], message: str) -> None:
    write_csv(
        "scores.csv", "logit_a,logit_b,logit_c,label", [[*r, "abc"[y]] for r, y in zip(LOGITS, LABELS, strict=True)]
    )
    assert run("logits=scores.csv", ONE, "save=kept.safetensors")[0] == 0
    np.savez("two.npz", logits=LOGITS[:, :2])
    np.savez("bare.npz", x=LOGITS)
    write_csv("named.csv", "logit_a,logit_b,logit_d", LOGITS.tolist())
    write_csv("fewer.csv", "logit_c,logit_a", LOGITS[:, :2].tolist())
    save_file({"x": torch.zeros(1)}, "other.safetensors")
    Path("broken.safetensors").write_bytes(b"nothing")
    assert message in refused("apply", *words)


def test_nothing_to_keep(refused: Callable[..., str]) -> None:
    np.savez("scores.npz", **FIT)
    assert "calibration=none has none" in refused("logits=scores.npz", "calibration=none", "save=kept.safetensors")


def test_intervals(run: Run) -> None:
    np.savez("scores.npz", **FIT, **TEST)
    code, out, _ = run("logits=scores.npz", ONE, "bootstrap=100")
    assert code == 0
    assert "with intervals" in out
    value, interval, change, _ = row(out, "nll, temperature_scaling")
    assert value == row(out, "nll")[1]
    assert "…" in interval
    assert change.startswith("-")
    assert "bootstrap=-1" in run("logits=scores.npz", "bootstrap=-1")[2]
    assert "bootstrap=99: 1 resample in 40 lies beyond each end" in run("logits=scores.npz", "bootstrap=99")[2]
