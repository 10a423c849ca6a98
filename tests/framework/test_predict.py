"""`poise predict`: from what a run ships and a file of inputs to a table and probabilities."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from poise import predicting
from poise.card import Card
from poise.cli import main
from poise.config.commands import Predict
from poise.data.listing import list_folders
from poise.data.sources.image_folder import ImageFolder
from poise.models.mlp import mlp
from poise.models.small_cnn import small_cnn
from poise.predictor import Predictor
from poise_recipes.calibration.temperature_scaling import TemperatureScaling

NAMES = ("cat", "[dog]", "great tit")
FEATURES = 4

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `poise predict …` in a directory with the runs below; gives exit code and what was said."""
    monkeypatch.chdir(tmp_path)
    pictures().save(Path("pictures/predictor"))
    pictures(3, 9, 9).save(Path("colours/predictor"))
    pictures(3, 9, 8).save(Path("oblong/predictor"))
    table().save(Path("table/predictor"))

    def act(*words: str) -> tuple[int, str, str]:
        code = main(["predict", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return act


def pictures(*shape: int, valid_range: tuple[float, float] = (0.0, 1.0)) -> Predictor:
    """For pictures [C, H, W], of 1, 8 and 8 where nothing else is said."""
    shape = shape or (1, 8, 8)
    torch.manual_seed(0)
    calibrator = TemperatureScaling()
    calibrator.temperature.fill_(0.05)
    card = Card(
        shape,
        NAMES,
        valid_range,
        model={"name": "small_cnn", "parameters": {"width": 4}},
        calibrator={"name": "temperature_scaling", "parameters": {}},
    )
    return Predictor(small_cnn(3, shape, width=4), card, calibrator)


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


def photos(folder: str, *names: str, size: tuple[int, int] = (9, 9)) -> np.ndarray:
    """Pictures in colour, no two the same, written in this order; their pixels [N, 3, H, W]."""
    width, height = size
    x = np.random.default_rng(len(names)).integers(256, size=(len(names), height, width, 3), dtype=np.uint8)
    for name, pixels in zip(names, x, strict=True):
        place = Path(folder, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    return np.moveaxis(x, -1, 1)


@pytest.mark.parametrize("batch", [2, 1000])
def test_a_folder_of_pictures_is_the_array_of_their_pixels(
    run: Run, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(predicting, "BATCH", batch)
    names = ("a/b/2.png", "a/10.png", "b.PNG", 'Z/é, "n".bmp', "[red].ppm")
    x = dict(zip(names, photos("new", *names), strict=True))
    photos("new", ".hidden.png", ".hidden/a.png")
    Path("new/notes.txt").touch()
    order = ['Z/é, "n".bmp', "[red].ppm", "a/10.png", "a/b/2.png", "b.PNG"]
    expected = pictures(3, 9, 9)(np.stack([x[name] for name in order])).numpy()
    code, out, err = run("run=colours", "input=new", "out=found.npz")
    assert (code, err) == (0, "new: 5 inputs\n")
    found = np.load("found.npz")
    assert found["files"].tolist() == order
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-6)
    assert [cells(line)[0] for line in out.splitlines() if line.startswith("│")][: len(order)] == order
    assert run("run=colours", "input=new", "out=found.csv")[0] == 0
    with open("found.csv", encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["file", "prediction", *(f"probability_{name}" for name in NAMES)]
    assert [line[:2] for line in lines] == [[n, NAMES[p.argmax()]] for n, p in zip(order, expected, strict=True)]
    np.testing.assert_allclose(np.array([line[2:] for line in lines], dtype=float), expected, rtol=0, atol=1e-6)


def test_pictures_are_read_as_the_run_read_its_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resized and cut, in one order, whatever their size and colours."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.cwd() / "home"))
    for name in ("cat", "dog"):
        for number, size in enumerate(((9, 9), (12, 10), (8, 25))):
            photos(f"data/test/{name}/{number}", "a.png", "b.jpg", size=size)
        Image.new("L", (10, 11), 90).save(f"data/test/{name}/grey.png")
    test = ImageFolder("data", size=9).load(0).test
    assert run("run=colours", "input=data", "out=found.npz")[0] == 0
    found = np.load("found.npz")
    assert found["files"].tolist() == list_folders(Path("data")).parts["test"].files
    expected = pictures(3, 9, 9)(test.x[:]).numpy()
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=1e-6)


def test_one_picture_in_colour_for_a_model_of_grey_ones(run: Run) -> None:
    photos("new", "a.png", size=(8, 8))
    grey = np.asarray(Image.open("new/a.png").convert("L"))
    assert run("run=pictures", "input=new/a.png", "out=found.npz")[0] == 0
    found = np.load("found.npz")
    assert found["files"].tolist() == ["a.png"]
    np.testing.assert_allclose(found["probabilities"], pictures()(grey[None, None]).numpy(), rtol=0, atol=1e-6)


def test_of_a_name_the_end_is_shown_on_one_line(run: Run) -> None:
    long = f"{'deep/' * 9}0123456789.png"
    photos("new", "a\x1b[31m\n.png", long)
    code, out, _ = run("run=colours", "input=new")
    assert code == 0
    first, second = (cells(line)[0] for line in out.splitlines()[4:6])
    assert first == "a?[31m?.png"
    assert second == f"…{long[-predicting.LONGEST + 1 :]}"


def test_a_name_that_is_no_text_is_written_with_escapes(run: Run) -> None:
    photos("new", os.fsdecode(b"\xff.png"))
    for out in ("found.npz", "found.csv"):
        assert run("run=colours", "input=new", f"out={out}")[0] == 0
    assert np.load("found.npz")["files"].tolist() == [r"\udcff.png"]
    assert Path("found.csv").read_text().splitlines()[1].startswith(r"\udcff.png,")


def test_what_is_no_square_is_taken_as_it_is(run: Run) -> None:
    x = photos("new", "a.png", "b.png", size=(8, 9))
    assert run("run=oblong", "input=new", "out=found.npz")[0] == 0
    np.testing.assert_allclose(np.load("found.npz")["probabilities"], pictures(3, 9, 8)(x).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=colours", "input=some"], "input=some: 2 of 4 pictures cannot be read: some/b.png: this is no picture."),
        (["run=colours", "input=some/d.png"], "input=some/d.png: 1 of 1 pictures cannot be read: some/d.png: "),
        (["run=colours", "input=text"], "input=text is a directory that holds no picture (.jpg, .jpeg, .png, "),
        (["run=colours", "input=links"], "links/a.png is no file: a link to nothing?"),
        (["run=colours", "input=no.png"], "input=no.png: there is no such file."),
        (["run=colours", "input=photo.gif"], "the name of the file says no kind that is read here, which are .npz, "),
        (["run=table", "input=good"], "input=good: this predictor takes [N, 4], and pictures are [N, C, H, W] with 1 "),
        (["run=signed", "input=good"], "input=good: this predictor takes -1…1, and pictures are 0…1: give a file of"),
        (["run=oblong", "input=good"], "1 of 1 pictures cannot be read: good/a.png: it has 9 x 9 pixels, where 8 x 9 "),
    ],
)
def test_pictures_that_are_given_wrongly(
    run: Run, monkeypatch: pytest.MonkeyPatch, batch: int, words: list[str], message: str
) -> None:
    monkeypatch.setattr(predicting, "BATCH", batch)
    pictures(3, 9, 9, valid_range=(-1.0, 1.0)).save(Path("signed/predictor"))
    photos("good", "a.png")
    photos("some", "a.png", "b.png", "c.png", "d.png")
    Path("some/b.png").write_text("a text")
    Path("some/d.png").write_bytes(Path("some/d.png").read_bytes()[:60])
    for name in ("text", "links"):
        Path(name).mkdir()
    Path("text/notes.txt").touch()
    Path("links/a.png").symlink_to("nowhere.png")
    Path("photo.gif").touch()
    code, out, err = run(*words, "out=found.csv")
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert len(err.splitlines()) <= 2
    assert not Path("found.csv").exists()


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
            [
                "run= is missing: give the directory of a finished run.",
                "input= is missing: give a file, .npz, .npy or .csv, a picture, or a folder of pictures.",
            ],
        ),
        (["run=table", "input=no.npz"], ["input=no.npz: there is no such file."]),
        (["run=table", "input=good.np"], ["input=good.np: there is no such file. Did you mean 'good.npy'?"]),
        (["run=tabel", "input=good.npy"], ["there is no run tabel"]),
        (["run=empty", "input=good.npy"], ["empty"]),
        (["run=table", "input=model.pt"], ["a .pt file may run code when it is read"]),
        (["run=table", "input=text.npy"], ["input=text.npy is not a whole .npy file of a plain array"]),
        (["run=table", "input=text.npz"], ["input=text.npz is no .npz archive of arrays"]),
        (["run=table", "input=objects.npy"], ["holds an array of Python objects, which may run code"]),
        (["run=table", "input=several.npz"], ["input=several.npz has no array 'x'; it has a, b."]),
        (["run=table", "input=line.npy"], ["holds an array of shape (4,): give inputs [N, …], one or more."]),
        (["run=table", "input=none.npy"], ["holds an array of shape (0, 4)"]),
        (["run=table", "input=header.csv"], ["holds an array of shape (0, 4)"]),
        (["run=table", "input=words.csv"], ["input=words.csv, line 2: 'x' in column 'b' is no number."]),
        (["run=table", "input=numbers.csv"], ["where it has to name the columns: write a line above it"]),
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
    (first, second, third) = capsys.readouterr().out.partition("Examples")[2].split("poise predict")[1:]
    Path("photos").mkdir()
    Image.new("RGB", (12, 9)).save("photos/a.jpg")
    for example in (first, third):
        assert run(*example.split())[0] == 0
    table().save(Path("runs/mine/predictor"))
    Path("table.csv").write_text("a,b,c,d\n1,2,3,4\n")
    assert run(*second.split())[0] == 0
