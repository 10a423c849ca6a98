"""ImageNet's layout, in a few pictures."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from poise.data.dataset import Splits
from poise.data.sources.imagenet import Imagenet
from poise.errors import UserError

SHADE = {"n01440764": 10, "n02012849": 20, "n03126707": 30}
WORDS = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\nn09999999 not here\n"


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five training pictures and one to validate of each class, of several sizes."""
    for place, count in (("train", 5), ("val", 1)):
        for name, shade in SHADE.items():
            (tmp_path / place / name).mkdir(parents=True)
            for number in range(count):
                picture = Image.new("L", (40 + number, 30), shade)
                picture.save(tmp_path / place / name / f"{name}_{number}.JPEG")
    return tmp_path


def _load(folder: Path, size: int = 16, resize: int = 20) -> Splits:
    return Imagenet(str(folder), size=size, resize=resize, val=0.2, calibration=0.2).load(0)


def test_val_is_the_test_split_and_folders_number_classes(folder: Path) -> None:
    splits = _load(folder)
    assert {name: len(split) for name, split in splits.main.items()} == {
        "train": 9,
        "val": 3,
        "calibration": 3,
        "test": 3,
    }
    assert splits.input_shape == (3, 16, 16)
    assert splits.class_names == tuple(SHADE)
    for split in splits.main.values():
        assert torch.equal(split.x[:][:, 0, 8, 8], torch.tensor([*SHADE.values()])[split.label])
    assert Imagenet.augment == ("random_resized_crop", "flip")


def test_classes_are_called_by_their_words(folder: Path) -> None:
    (folder / "LOC_synset_mapping.txt").write_text(WORDS)
    assert _load(folder).class_names == ("tench", "crane (n02012849)", "crane (n03126707)")


def test_kaggles_layout(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    given = tmp_path_factory.mktemp("kaggle")
    (given / "ILSVRC" / "Data").mkdir(parents=True)
    (given / "ILSVRC" / "Data" / "CLS-LOC").symlink_to(folder)
    (given / "LOC_synset_mapping.txt").write_text(WORDS)
    assert _load(given).class_names[0] == "tench"


def test_what_is_missing_is_said(folder: Path) -> None:
    with pytest.raises(UserError, match=r"data.resize=8 leaves no square of data.size=16"):
        _load(folder, resize=8)
    (folder / "classes.txt").write_text("n01440764 tench\n")
    with pytest.raises(UserError, match=r"classes.txt has no line for the class n02012849"):
        _load(folder)
    (folder / "classes.txt").write_bytes("n01440764 Schleie, Grünling\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"classes.txt is no text in UTF-8 \(.*\): save it as that"):
        _load(folder)
    (folder / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(UserError, match=r"val_00000001.JPEG lies in no class's folder"):
        _load(folder)
    (folder / "val").rename(folder / "validation")
    with pytest.raises(UserError, match="holds no folder val: unpack ImageNet there"):
        _load(folder)
