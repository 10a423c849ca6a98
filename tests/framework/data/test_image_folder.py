"""Folders of pictures in every layout, the same on every machine, and what is said of other folders."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from poise import Predictor, fit
from poise.data.dataset import Arrays, Splits
from poise.data.listing import list_folders
from poise.data.metadata import list_metadata
from poise.data.sources.image_folder import ImageFolder
from poise.errors import UserError

SHADE = {"cat": 0, "dog": 100, "Émile": 200}  # classes; numbered by name, É after all that is ASCII


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("home")))


def _draw(place: Path, shade: int, size: tuple[int, int] = (4, 4)) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).save(place)


def _classes(place: Path, count: int, extra: int = 0) -> None:
    """A folder for each class, whose pictures have its shade, and `extra` more."""
    for name, shade in SHADE.items():
        for number in range(count):
            _draw(place / name / f"{number}.png", shade + extra + number % 2)


def _shades(split: Arrays) -> Tensor:
    """Of each picture [N]; all pixels have one."""
    x = split.x[:]
    assert bool((x == x[:, :1, :1, :1]).all())
    return x[:, 0, 0, 0]


def _check_labels(splits: Splits, extra: dict[str, int] | None = None) -> None:
    shade = torch.tensor([SHADE[name] for name in splits.class_names])
    for name, split in {**splits.main, **splits.shifts}.items():
        above = _shades(split) - shade[split.label] - (extra or {}).get(name, 0)
        assert set(above.tolist()) <= {0, 1}, name


def _load(path: Path, **settings: object) -> Splits:
    return ImageFolder(str(path), **settings).load(0)  # type: ignore[arg-type]


def _sizes(splits: Splits) -> dict[str, int]:
    return {name: len(split) for name, split in splits.main.items()}


def test_class_folders_alone_are_shared_out(tmp_path: Path) -> None:
    _classes(tmp_path, 20)
    splits = _load(tmp_path)
    assert splits.class_names == ("cat", "dog", "Émile")
    assert _sizes(splits) == {"train": 36, "val": 6, "calibration": 6, "test": 12}
    assert all(split.label.bincount().unique().numel() == 1 for split in splits.main.values())
    assert splits.input_shape == (3, 4, 4)
    assert splits.train.x.dtype == torch.uint8
    _check_labels(splits)


def test_the_seed_alone_decides_on_shares(tmp_path: Path) -> None:
    _classes(tmp_path, 20)
    one, again, other = (ImageFolder(str(tmp_path)).load(seed).val for seed in (0, 0, 1))
    assert torch.equal(_shades(one), _shades(again))
    assert not torch.equal(_shades(one), _shades(other))


@pytest.mark.parametrize("given", [("val", "calibration"), ("val",), ()])
def test_splits_that_are_there_stay(tmp_path: Path, given: tuple[str, ...]) -> None:
    extra = dict(zip(("train", "test", *given), (0, 10, 20, 30), strict=False))
    for name, more in extra.items():
        _classes(tmp_path / name, 10, more)
    splits = _load(tmp_path)
    held_out = 2 - len(given)
    expected = {"train": 30 - 3 * held_out, "test": 30}
    assert _sizes(splits) == {**dict.fromkeys(("val", "calibration"), 3), **dict.fromkeys(given, 30), **expected}
    _check_labels(splits, extra)


def test_shifts_other_things_and_unlabelled_pictures(tmp_path: Path) -> None:
    for place, extra in (("train", 0), ("test", 0), ("shifts/fog", 20)):
        _classes(tmp_path / place, 10, extra)
    _draw(tmp_path / "ood/textures/a.png", 7)
    _draw(tmp_path / "ood/textures/deep/b.png", 8)
    _draw(tmp_path / "unlabelled/c.png", 9)
    splits = _load(tmp_path)
    assert [*splits.shifts, *splits.ood, *splits.streams] == ["fog", "textures", "unlabelled"]
    _check_labels(splits, {"fog": 20})
    assert _shades(splits.ood["textures"]).tolist() == [7, 8]
    assert splits.streams["unlabelled"].label.tolist() == [-1]


def test_without_train_there_is_something_to_evaluate_on(tmp_path: Path) -> None:
    _classes(tmp_path / "test", 4)
    splits = _load(tmp_path)
    assert _sizes(splits) == {"train": 0, "val": 0, "calibration": 0, "test": 12}
    _check_labels(splits)


def test_links_depth_case_and_hidden_files(tmp_path: Path) -> None:
    _classes(tmp_path / "elsewhere", 2)
    data = tmp_path / "data"
    _draw(data / "cat" / "sub" / "A.PNG", 0)
    _draw(data / "cat" / ".hidden.png", 3)
    _draw(data / ".checkpoints" / "a.png", 3)
    (data / "cat" / "notes.txt").touch()
    (data / "cat" / "sub" / "back").symlink_to(data / "cat", target_is_directory=True)
    (data / "dog").symlink_to(tmp_path / "elsewhere" / "dog", target_is_directory=True)
    (data / "dog" / "linked.png").symlink_to(tmp_path / "elsewhere" / "dog" / "0.png")
    (data / "README").touch()
    listed = list_folders(data)
    assert listed.class_names == ("cat", "dog")
    assert listed.parts["train"].files == ["cat/sub/A.PNG", "dog/0.png", "dog/1.png", "dog/linked.png"]
    assert listed.parts["train"].label.tolist() == [0, 1, 1, 1]


def test_sizes_and_channels(tmp_path: Path) -> None:
    for name, shade in SHADE.items():
        for number, size in enumerate(((8, 6), (9, 30), (6, 6), (4, 5))):
            _draw(tmp_path / "train" / name / f"{number}.png", shade, size)
            _draw(tmp_path / "test" / name / f"{number}.png", shade, size)
    shares = {"val": 0.25, "calibration": 0.25}
    splits = _load(tmp_path, size=6, channels=1, **shares)
    assert splits.input_shape == (1, 6, 6)
    _check_labels(splits)
    with pytest.raises(UserError, match=r"cat/0.png is 8 x 6, .*cat/1.png 9 x 30. Give data.size=6"):
        _load(tmp_path, **shares)


TABLE = """\
file,label,group,split
a/0.png,dog,night,train
a/1.png,cat,day,train
a/2.png,dog,day,val
a/3.png,cat,night,val
a/4.png,cat,day,calibration
a/5.png,dog,day,calibration
a/6.png,cat,day,test
a/7.png,dog,night,test
a/8.png,dog,,shift:rain
a/9.png,,,ood:noise
b 10.png,,,unlabelled
"""


def _table(folder: Path, text: str) -> Path:
    for number in range(10):
        _draw(folder / "a" / f"{number}.png", number)
    _draw(folder / "b 10.png", 10)
    (folder / "metadata.csv").write_text(text)
    return folder


def test_a_table_says_what_is_what(tmp_path: Path) -> None:
    splits = _load(_table(tmp_path, TABLE))
    assert splits.class_names == ("cat", "dog")
    assert splits.group_names == ("day", "night")
    shades = {name: _shades(split).tolist() for name, split in splits.main.items()}
    assert shades == {"train": [0, 1], "val": [2, 3], "calibration": [4, 5], "test": [6, 7]}
    assert splits.train.label.tolist() == [1, 0]
    assert splits.train.group is not None
    assert splits.train.group.tolist() == [1, 0]
    rain, noise = splits.shifts["rain"], splits.ood["noise"]
    assert (rain.label.tolist(), rain.group) == ([1], None)
    assert (_shades(noise).tolist(), _shades(splits.streams["unlabelled"]).tolist()) == ([9], [10])


def test_a_table_of_numbers_without_splits(tmp_path: Path) -> None:
    rows = "".join(f"a/{number}.png,{number % 2}\n" for number in range(10))
    splits = _load(_table(tmp_path, f"file,label\n{rows}"), val=0.2, calibration=0.2, test=0.2)
    assert splits.class_names == ("0", "1")
    assert _sizes(splits) == {"train": 4, "val": 2, "calibration": 2, "test": 2}
    for split in splits.main.values():
        assert torch.equal(_shades(split) % 2, split.label)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("file,label", "filename,label"), "has no column file: .*'filename,label,group,split'"),
        (("group,split", "group,splits"), "nothing reads a column 'splits'. Did you mean 'split'"),
        (("day,val", "day,vall"), "line 4: there is no split 'vall', only train, .*Did you mean 'val'"),
        (("shift:rain", "shift:"), "line 10: there is no split 'shift:'"),
        (("a/3.png", "a/30.png"), r"line 5: 'a/30.png' is no file in "),
        (("a/3.png", "a/2.png"), "line 5: 'a/2.png' stands in line 4 already"),
        (("a/3.png,cat", "a/3.png,"), "line 5 has no label"),
        (("day,val", ",val"), "1 of 2 rows of val have no group"),
        (("dog", "cat"), "every label is 'cat'; a classifier needs two"),
        (("a/3.png", "./a//b/../2.png"), r"line 5: './a//b/../2.png' stands in line 4 already"),
        (("a/3.png,cat", "a/3.png,cats"), "line 5: 'cats' is no class: training knows cat, dog. Did you mean 'cat'"),
        (("a/8.png,dog", "a/8.png,cow"), "line 10: 'cow' is no class: training knows cat, dog"),
    ],
)
def test_a_table_that_is_wrong_says_where(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _load(_table(tmp_path, TABLE.replace(*change)))


def test_numbers_of_classes_leave_none_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the column label holds 2, but not 1: number from 0 without gaps"):
        _load(_table(tmp_path, TABLE.replace("dog", "0").replace("cat", "2")))


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    rows = "".join(f"a/{number}.png,{number}.0,{number % 2}.0,train\n" for number in range(10))
    listed = list_metadata(_table(tmp_path, f"file,label,group,split\n{rows}b 10.png,9,,test\n"))
    assert listed.class_names == tuple(str(number) for number in range(10))
    assert listed.group_names == ("0", "1")
    assert [part.label.tolist() for part in listed.parts.values()] == [list(range(10)), [9]]


@pytest.mark.parametrize("number", ["-1", "0.5"])
def test_numbers_that_are_no_classes_are_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(UserError, match=f"line 2: label {number} is no number of a class: number from 0"):
        _load(_table(tmp_path, TABLE.replace("dog", number).replace("cat", "0")))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("train/cat/0.png train/dog/0.png test/cta/0.png", "cta is the folder of no class: .*Did you mean 'cat'"),
        (
            "train/cat/0.png train/dog/0.png valid/cat/0.png",
            "valid holds pictures, and is none of train, .* Did you mean 'val'",
        ),
        ("train/0.png boat/0.png car/0.png", "boat holds pictures, .*, while train beside it is taken for a split"),
        ("Train/cat/0.png Test/cat/0.png", "Test holds folders, .* is a class: rename it. Did you mean 'test'"),
        ("cat/0.png dog/0.png Validation/cat/0.png", "Validation holds folders, .* Did you mean 'val'"),
        ("cat/0.png dog/0.png ood/0.png", "ood/0.png lies in no folder with a name: put it in .*ood/NAME"),
        ("train/0.png train/cat/0.png train/dog/0.png", "train/0.png lies in no class's folder"),
        ("train/cat/0.png train/dog/0.png test/0.png", "test/0.png lies in no class's folder"),
        ("0.png 1.png", "0.png lies in no class's folder: give each class a folder"),
        ("train/cat/0.png", "two or more: it holds only cat"),
        ("val/cat/0.png val/dog/0.png", "holds val, but nothing to train or test on"),
        ("cat/0.png dog/0.txt", "dog holds no picture"),
        ("", "two or more: it holds none"),
    ],
)
def test_another_layout_is_explained(tmp_path: Path, wrong: str, message: str) -> None:
    for file in wrong.split():
        _draw(tmp_path / file, 0) if file.endswith("png") else (tmp_path / file).parent.mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        _load(tmp_path)


def test_paths_that_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "a.zip").touch()
    with pytest.raises(UserError, match=r"data.path=.*a.zip: this is a file: give the folder"):
        _load(tmp_path / "a.zip")
    with pytest.raises(UserError, match=r"there is no such folder"):
        _load(tmp_path / "b")
    with pytest.raises(UserError, match=r"data.path= is empty: give the folder"):
        ImageFolder("").load(0)
    _classes(tmp_path, 2)
    os.symlink("nowhere.png", tmp_path / "cat" / "x.png")
    with pytest.raises(UserError, match=r"cat/x.png is no file: a link to nothing"):
        _load(tmp_path)


def test_a_cache_is_no_class(tmp_path: Path) -> None:
    _classes(tmp_path / "pictures", 2)
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    for cache in ("pictures", "pictures/cache", "link/cache"):
        with pytest.raises(UserError, match=rf"data.cache=.*{cache} lies in {tmp_path}/pictures, whose folders are"):
            _load(tmp_path / "pictures", cache=str(tmp_path / cache))


@pytest.mark.parametrize("place", ["loop", "cat/loop", "loop.png"])
def test_a_link_to_itself_is_named(tmp_path: Path, place: str) -> None:
    _classes(tmp_path, 2)
    (tmp_path / place).symlink_to(tmp_path / place)
    with pytest.raises(UserError, match=f"{place} leads nowhere: Too many levels of symbolic links"):
        _load(tmp_path)


def test_files_of_other_kinds_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _classes(tmp_path / "train", 10)
    _classes(tmp_path / "test", 1)
    _draw(tmp_path / "ood/textures/a.png", 7)
    for name in ("train/cat/a.TIF", "train/dog/sub/b.tif", "test/cat/c.gif", "ood/textures/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    _load(tmp_path)
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith(f"files of other kinds in the folders of {tmp_path} are left out: 4 (gif, no ending, tif); ")


def test_a_run_on_a_folder_calls_its_classes_by_their_names(tmp_path: Path) -> None:
    _classes(tmp_path / "pictures", 20)
    result = fit(
        data={"name": "image_folder", "path": str(tmp_path / "pictures")},
        model="mlp",
        augment="flip",
        evaluation="clean",
        calibration="temperature_scaling",
        trainer={"max_epochs": 8, "batch_size": 12},
        tracking="none",
        run_dir=str(tmp_path / "run"),
    )
    assert {f"test/accuracy/class/{name}" for name in SHADE} <= set(result.metrics)
    assert result.metrics["test/accuracy"] == 1.0
    assert Predictor.load(result.path).class_names == ("cat", "dog", "Émile")


@pytest.mark.parametrize(("name", "split"), [("shifts/blur/cat", "shift:NAME"), ("ood/frogs", "ood:NAME")])
def test_a_table_and_folders_beside_it_are_not_taken_for_one(tmp_path: Path, name: str, split: str) -> None:
    _classes(tmp_path / "all", 4)
    _draw(tmp_path / name / "0.png", 7)
    files = sorted(place.relative_to(tmp_path).as_posix() for place in (tmp_path / "all").rglob("*.png"))
    (tmp_path / "metadata.csv").write_text("file,label\n" + "".join(f"{file},{file.split('/')[1]}\n" for file in files))
    with pytest.raises(
        UserError, match=f"lists nothing of .*{name.split('/')[0]}: list its pictures with split={split}"
    ):
        _load(tmp_path)
