"""`poise predict`: from what a run ships and a file of inputs to a table and probabilities."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from poise import predicting
from poise.card import Card
from poise.cli import main
from poise.config.commands import Predict
from poise.models.mlp import mlp
from poise.models.small_cnn import small_cnn
from poise.predictor import Predictor
from poise_recipes.calibration.temperature_scaling import TemperatureScaling

NAMES = ("cat", "[dog]", "great tit")
FEATURES = 4

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `poise predict …` in a directory with the runs `pictures` and `table`; gives exit code and what was said."""
    monkeypatch.chdir(tmp_path)
    pictures().save(Path("pictures/predictor"))
    table().save(Path("table/predictor"))

    def act(*words: str) -> tuple[int, str, str]:
        code = main(["predict", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return act


def pictures() -> Predictor:
    torch.manual_seed(0)
    calibrator = TemperatureScaling()
    calibrator.temperature.fill_(0.05)
    card = Card(
        (1, 8, 8),
        NAMES,
        (0.0, 1.0),
        model={"name": "small_cnn", "parameters": {"width": 4}},
        calibrator={"name": "temperature_scaling", "parameters": {}},
    )
    return Predictor(small_cnn(3, (1, 8, 8), width=4), card, calibrator)


def table() -> Predictor:
    torch.manual_seed(1)
    card = Card((FEATURES,), NAMES, None, model={"name": "mlp", "parameters": {"width": 8}})
    return Predictor(mlp(3, (FEATURES,), width=8), card)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_first_rows_counts_and_confidence(run: Run) -> None:
    x = draw(25, 8, 8)
    np.savez("new.npz", x=x, other=x)
    expected = pictures()(torch.from_numpy(x)[:, None]).numpy()
    code, out, err = run("run=pictures", "input=new.npz")
    assert code == 0
    assert err == "new.npz: 25 inputs\n"
    lines = [cells(line) for line in out.splitlines() if line.startswith("│")]
    for row in range(predicting.FIRST):
        first, second, _ = np.argsort(-expected[row])
        shares = [f"{100 * expected[row][place]:.2f} %" for place in (first, second)]
        assert lines[row] == [str(row), NAMES[first], shares[0], NAMES[second], shares[1]]
    predicted, confidence = expected.argmax(1), expected.max(1)
    for place in np.unique(predicted):
        own = confidence[predicted == place]
        assert [NAMES[place], str(len(own)), f"{100 * own.mean():.2f} %"] in lines
    assert lines[-1] == ["all", "25", f"{100 * confidence.mean():.2f} %"]
    assert "the first 10 of 25" in out


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_change_nothing(run: Run, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(predicting, "BATCH", batch)
    x = draw(20, FEATURES)
    found = predicting.predict(table(), x, "input=new.npy")
    np.testing.assert_allclose(found, table()(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-6)


def test_what_is_written(run: Run) -> None:
    x = draw(12, FEATURES)
    np.save("new.npy", x)
    expected = table()(torch.from_numpy(x)).numpy()
    assert run("run=table", "input=new.npy", "out=found.npz")[0] == 0
    found = np.load("found.npz")
    assert sorted(found) == ["predictions", "probabilities"]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-6)
    assert found["predictions"].tolist() == expected.argmax(1).tolist()
    code, out, _ = run("run=table/predictor", "input=new.npy", "out=found.csv")
    assert code == 0
    assert "found.csv has the probabilities of 12 inputs." in out
    header, *lines = Path("found.csv").read_text().splitlines()
    assert header == "prediction,probability_cat,probability_[dog],probability_great tit"
    for line, own in zip(lines, expected, strict=True):
        name, *shares = line.split(",")
        assert name == NAMES[own.argmax()]
        np.testing.assert_allclose(np.array(shares, dtype=float), own, rtol=0, atol=1e-6)


def test_nobody_has_to_read_what_is_printed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("poise.predicting.say", closed)
    with pytest.raises(BrokenPipeError):  # which ends the command in peace
        predicting.main(Predict(out="found.npz"), Path("table"), draw(12, FEATURES))
    assert len(np.load("found.npz")["predictions"]) == 12


def test_the_same_from_every_kind_of_file(run: Run) -> None:
    x = draw(5, FEATURES)
    np.save("new.npy", x)
    np.savez("new.npz", measured=x)
    rows = "\n".join(",".join(map(repr, map(float, row))) for row in x)
    Path("new.csv").write_text(f"a,b,c,d\n{rows}\n")
    tables = {run("run=table", f"input=new.{kind}")[:2] for kind in ("npy", "npz", "csv")}
    assert len(tables) == 1
    assert next(iter(tables))[0] == 0


def test_pictures_as_people_have_them(run: Run) -> None:
    x = np.random.default_rng(0).integers(256, size=(3, 8, 8, 1), dtype=np.uint8)
    np.save("last.npy", x)
    np.save("first.npy", np.moveaxis(x, -1, 1) / 255)
    last, first = (run("run=pictures", f"input={name}.npy")[1] for name in ("last", "first"))
    assert last == first
    assert "all inputs" in first


def test_many_classes_are_counted_together(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(predicting, "MOST", 1)
    np.save("new.npy", 4 * draw(200, FEATURES) - 2)
    predicted = table()(torch.from_numpy(np.load("new.npy"))).argmax(1)
    assert len(predicted.unique()) == 3
    _, out, _ = run("run=table", "input=new.npy")
    counts = sorted(torch.bincount(predicted).tolist())
    assert ["2 others", str(counts[0] + counts[1])] in [cells(line)[:2] for line in out.splitlines()]


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (
            [],
            ["run= is missing: give the directory of a finished run.", "input= is missing: give a file, .npz, .npy or"],
        ),
        (["run=table", "input=no.npz"], ["input=no.npz: there is no such file."]),
        (["run=table", "input=good.np"], ["input=good.np: there is no such file. Did you mean 'good.npy'?"]),
        (["run=tabel", "input=good.npy"], ["there is no run tabel"]),
        (["run=empty", "input=good.npy"], ["empty"]),
        (["run=table", "input=model.pt"], ["a .pt file may run code when it is read"]),
        (["run=table", "input=text.npy"], ["input=text.npy is not a whole .npy file of a plain array"]),
        (["run=table", "input=text.npz"], ["input=text.npz is no .npz archive of arrays"]),
        (["run=table", "input=objects.npy"], ["Object arrays cannot be loaded"]),
        (["run=table", "input=several.npz"], ["input=several.npz has no array 'x'; it has a, b."]),
        (["run=table", "input=line.npy"], ["holds an array of shape (4,): give inputs [N, …], one or more."]),
        (["run=table", "input=none.npy"], ["holds an array of shape (0, 4)"]),
        (["run=table", "input=header.csv"], ["holds an array of shape (0, 4)"]),
        (["run=table", "input=words.csv"], ["input=words.csv, line 2: 'x' in column 'b' is no number."]),
        (["run=table", "input=numbers.csv"], ["the first line holds numbers, where it has to name the columns."]),
        (["run=table", "input=good.npy", "out=good.npy"], ["out=good.npy is the file that is read"]),
        (["run=table", "input=good.npy", "out=found.txt"], ["the name of the file has to end in .npz or .csv"]),
        (["run=table", "input=good.npy", "trust=yes"], ["trust=yes is not true or false."]),
        (
            ["run=table", "imput=good.npy", "input=good.npy"],
            ["poise predict has no 'imput': run=, input=, out=, trust="],
        ),
        (["run=table", "recipe=trades", "input=good.npy"], ["poise predict has no 'recipe'"]),
    ],
)
def test_what_is_asked_wrongly(run: Run, words: list[str], messages: list[str]) -> None:
    x = draw(3, FEATURES)
    np.save("good.npy", x)
    np.save("line.npy", x[0])
    np.save("none.npy", x[:0])
    np.save("objects.npy", np.array([object()]))
    np.savez("several.npz", a=x, b=x)
    for name in ("model.pt", "text.npy", "text.npz"):
        Path(name).write_text("a text")
    Path("header.csv").write_text("a,b,c,d\n")
    Path("words.csv").write_text("a,b,c,d\n1,x,2,3\n")
    Path("numbers.csv").write_text("1,2,3,4\n1,2,3,4\n")
    Path("empty").mkdir()
    before = sorted(Path().rglob("*"))
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    lines = err.splitlines()[-len(messages) :]
    assert len(err.splitlines()) - len(messages) == (words[:1] == ["run=empty"])  # which is found after the file
    for line, message in zip(lines, messages, strict=True):
        assert message in line
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        ((3, 8, 9), 0.5, "input=new.npy: inputs have shape (3, 1, 8, 9); this predictor takes [N, 1, 8, 8]"),
        ((3, 8, 8), 7.0, "outside the valid range 0…1"),
        ((600, 8, 8), 7.0, "input=new.npy, rows 0 to 511: inputs go from 7 to 7"),
        ((3, 8, 8), np.nan, "input=new.npy: row 0 has values that are NaN or infinite."),
        ((3, 8, 8), 1e300, "input=new.npy: row 0 has values beyond what float32 holds."),
        ((3, 8, 8), 1, "input=new.npy holds int64: give uint8 (0 to 255) or floats."),
    ],
)
def test_inputs_of_another_kind_are_the_predictors_to_refuse(
    run: Run, shape: tuple[int, ...], value: float, message: str
) -> None:
    np.save("new.npy", np.full(shape, value))
    code, out, err = run("run=pictures", "input=new.npy", "out=found.npz")
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert len(err.splitlines()) == 2
    assert not Path("found.npz").exists()


def test_code_is_imported_on_trust_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("predict_own.py").write_text("from poise.models.mlp import mlp as make\n")
    monkeypatch.syspath_prepend(Path.cwd())
    made = table()
    card = Card((FEATURES,), NAMES, None, model={"name": "predict_own:make", "parameters": {"width": 8}})
    Predictor(made.model, card).save(Path("own/predictor"))
    np.save("new.npy", draw(3, FEATURES))
    code, _, err = run("run=own", "input=new.npy")
    assert code == 2
    assert "trust" in err.splitlines()[-1]


def test_the_examples_of_the_help_are_right(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    pictures().save(Path("runs/mine/predictor"))
    np.savez("new.npz", x=draw(2, 8, 8))
    main(["predict", "--help"])
    (first, second) = capsys.readouterr().out.partition("Examples")[2].split("poise predict")[1:]
    assert run(*first.split())[0] == 0
    table().save(Path("runs/mine/predictor"))
    Path("table.csv").write_text("a,b,c,d\n1,2,3,4\n")
    assert run(*second.split())[0] == 0
