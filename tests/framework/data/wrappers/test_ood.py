"""Other sources as OOD sets, brought into the form of the data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from poise.config import ConfigErrors, parse
from poise.data.sources.colored_digits import ColoredDigits
from poise.data.sources.digits import Digits
from poise.data.wrappers.ood import Ood, matched
from poise.errors import UserError
from poise.parts import load_splits
from small_runs import splits


def npz(folder: Path, *shape: int, dtype: str = "uint8") -> str:
    path = folder / "others.npz"
    x = np.random.default_rng(0).integers(0, 256, (9, *shape)).astype("uint8")
    np.savez(path, x_test=x if dtype == "uint8" else (x / 255).astype(dtype), y_test=np.arange(9) % 3)
    return str(path)


def test_other_data_are_brought_to_the_channels_and_the_size(tmp_path: Path) -> None:
    data = ColoredDigits().load(0)
    made = Ood(("digits", "npz"), path=npz(tmp_path, 12, 10, 3)).wrap(data, 0)
    assert list(made.ood) == ["digits", "others"]
    digits = made.ood["digits"]
    assert digits.x[:].equal(Digits().load(0).test.x.expand(-1, 3, -1, -1))
    assert set(digits.label.tolist()) == set(made.ood["others"].label.tolist()) == {-1}
    assert made.ood["others"].x.shape == (9, 3, 8, 8)
    assert made.ood["others"].x.dtype == torch.uint8
    assert made.main == data.main
    grey = Ood(("colored_digits",)).wrap(splits(), 0).ood["colored_digits"]
    red, green, _ = data.test.x.unbind(1)
    torch.testing.assert_close(grey.x[:, 0], 0.299 * red + 0.587 * green)


def archive(folder: Path, **arrays: np.ndarray) -> str:
    path = folder / "arrays.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def pictures(count: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size)).astype("uint8")


def test_the_ood_sets_of_a_source_are_taken_under_their_names_and_its_test_split_is_not(tmp_path: Path) -> None:
    several = {"x_ood_moss": pictures(5), "x_ood_sand": pictures(7, size=12)}
    alone = Ood(("npz",), path=archive(tmp_path, **several)).wrap(splits(), 0)
    assert {name: tuple(data.x.shape) for name, data in alone.ood.items()} == {
        "moss": (5, 1, 8, 8),
        "sand": (7, 1, 8, 8),
    }
    assert alone.ood["moss"].x[:, 0].equal(torch.from_numpy(several["x_ood_moss"]))
    labelled = {"x_test": pictures(9), "y_test": np.arange(9) % 3}
    beside = Ood(("npz",), path=archive(tmp_path, **several, **labelled)).wrap(splits(), 0)
    assert {name: data.x[:].tolist() for name, data in beside.ood.items()} == {
        name: data.x[:].tolist() for name, data in alone.ood.items()
    }
    assert list(Ood(("digits",)).wrap(splits(ood=dict(alone.ood)), 0).ood) == ["moss", "sand", "digits"]
    with pytest.raises(UserError, match=r"there is an OOD set 'moss' already"):
        Ood(("npz",), path=archive(tmp_path, **several)).wrap(alone, 0)


def test_labels_of_other_things_need_not_be_there(tmp_path: Path) -> None:
    made = Ood(("npz",), path=archive(tmp_path, x_test=pictures(9))).wrap(splits(), 0)
    assert made.ood["arrays"].label.tolist() == [-1] * 9


def configured(first: str, second: str, sources: str = "npz") -> list[str]:
    """The names of the OOD sets that two files get from a config with two wrappers."""
    from poise.given import Objects

    named = ["data.a.sources=npz", f"data.a.path={first}", f"data.b.sources={sources}", f"data.b.path={second}"]
    return list(load_splits(parse(["data=digits,ood@a,ood@b", *named]), Objects()).ood)


def test_a_set_without_a_name_is_called_by_an_alias_or_else_like_its_file(tmp_path: Path) -> None:
    path = archive(tmp_path, x_test=pictures(9))
    assert configured(path, path) == ["a", "b"]
    assert configured(path, path, "npz,digits") == ["a", "arrays", "digits"]
    for name, called in (("test.npz", "npz"), ("my noise.npz", "npz"), ("noise.v2.npz", "noise.v2")):
        np.savez(tmp_path / name, x_test=pictures(9))
        assert list(Ood(("npz",), path=str(tmp_path / name)).wrap(splits(), 0).ood) == [called]


def test_what_is_wrong_is_said_of_the_parameter_as_it_was_written(tmp_path: Path) -> None:
    path = archive(tmp_path, x_ood_moss=pictures(5))
    with pytest.raises(UserError) as caught:
        configured(path, path)
    assert str(caught.value) == (
        "data.b.sources=npz: there is an OOD set 'moss' already: leave one of them out, or call a test split "
        "otherwise, by an alias (ood@NAME)."
    )
    with pytest.raises(UserError, match=r"^data\.b\.sources=npz: data\.b\.path=.*nowhere\.npz: there is no such file"):
        configured(path, str(tmp_path / "nowhere.npz"))
    with pytest.raises(UserError, match=r"^data\.b\.sources is empty"):
        configured(path, path, "")


def test_a_file_with_nothing_usable_is_said_in_one_line(tmp_path: Path) -> None:
    path = archive(tmp_path, x_train=pictures(9), y_train=np.arange(9) % 3)
    with pytest.raises(UserError) as caught:
        Ood(("npz",), path=path).wrap(splits(), 0)
    assert str(caught.value) == (
        f"ood.sources=npz: {path} has neither x_ood_<name> nor x_test to take for other things; "
        "it has x_train, y_train."
    )
    with pytest.raises(UserError, match=r"nothing is known of an array 'x_odd_moss'"):
        Ood(("npz",), path=archive(tmp_path, x_odd_moss=pictures(9))).wrap(splits(), 0)
    with pytest.raises(UserError, match=r"^ood\.sources=npz: x_ood_moss"):
        Ood(("npz",), path=archive(tmp_path, x_ood_moss=np.full((4, 12, 12), 7.0))).wrap(splits(), 0)
    with pytest.raises(UserError, match=r"^ood\.moss is empty"):
        Ood(("npz",), path=archive(tmp_path, x_ood_moss=pictures(4)[:0])).wrap(splits(), 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "pictures"


def draw(place: Path, *sizes: tuple[int, int]) -> None:
    """Pictures in a folder, each of the shade of its number."""
    from PIL import Image

    place.mkdir(parents=True)
    for number, size in enumerate(sizes):
        Image.new("L", size, number).save(place / f"{number}.png")


def from_folder(folder: Path) -> dict[str, list[int]]:
    """The shades of the pictures that are taken as each OOD set of small data."""
    made = Ood(("image_folder",), path=str(folder)).wrap(splits(), 0)
    assert {tuple(data.x.shape[1:]) for data in made.ood.values()} == {(1, 8, 8)}
    return {name: data.x[:][:, 0, 0, 0].tolist() for name, data in made.ood.items()}


def test_a_folder_of_pictures_needs_no_classes_and_no_size(folder: Path) -> None:
    draw(folder, (8, 8), (20, 11), (3, 9))
    assert from_folder(folder) == {"pictures": [0, 1, 2]}
    draw(folder / "test" / "moss" / "green", (8, 8))
    assert from_folder(folder) == {"pictures": [0]}
    draw(folder / "ood" / "sand", (8, 8), (30, 30))
    draw(folder / "ood" / "snow", (16, 8))
    assert from_folder(folder) == {"sand": [0, 1], "snow": [0]}


def test_a_folder_without_pictures_is_said_in_one_line(folder: Path) -> None:
    (folder / "ood" / "empty").mkdir(parents=True)
    with pytest.raises(UserError, match=r"^ood\.sources=image_folder: .*pictures holds no pictures\.$"):
        from_folder(folder)
    with pytest.raises(UserError, match=r"^ood\.sources=image_folder: ood\.path=.*/nowhere: there is no such folder"):
        from_folder(folder / "nowhere")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_pictures_are_resized_as_pil_does(dtype: torch.dtype) -> None:
    from PIL import Image

    x = (255 * torch.rand(1, 1, 13, 16, generator=torch.Generator().manual_seed(0))).to(torch.uint8)
    given = x if dtype == torch.uint8 else x / torch.tensor(255, dtype=dtype)
    for size in ((8, 8), (20, 19)):
        made = matched(given, (3, *size))
        assert made.dtype == dtype
        expected = np.asarray(Image.fromarray(x[0, 0].numpy()).resize(size[::-1], Image.Resampling.BILINEAR))
        found = made.double() if dtype == torch.uint8 else 255 * made
        assert float((found - torch.from_numpy(expected.astype(float))).abs().max()) < 1 + 1e-9  # PIL rounds twice


def test_a_config_names_it_and_mistakes_are_said_before_anything_is_built() -> None:
    from poise.given import Objects

    config = parse(["data=colored_digits,ood", "data.ood.sources=digits"])
    assert list(load_splits(config, Objects()).ood) == ["digits"]
    with pytest.raises(ConfigErrors) as found:
        parse(["data=digits,ood", "data.ood.sources=colored_digit,subset,nowhere:Nothing"])
    first, second, third = str(found.value).splitlines()
    assert first.startswith("data.ood.sources=colored_digit: there is no data called 'colored_digit'. Did you mean")
    assert second == "data.ood.sources=subset: subset is a wrapper: it stands after the source in data=."
    assert third.startswith("data.ood.sources: ")


def test_what_cannot_be_an_ood_set_is_refused(tmp_path: Path) -> None:
    data = splits()
    with pytest.raises(UserError, match=r"ood\.sources=npz: ood\.path=nowhere\.npz: there is no such file"):
        Ood(("npz",), path="nowhere.npz").wrap(data, 0)
    with pytest.raises(UserError, match=r"ood\.sources=npz: npz needs a value for path"):
        Ood(("npz",)).wrap(data, 0)
    with pytest.raises(UserError, match=r"there is an OOD set 'digits' already"):
        Ood(("digits", "digits")).wrap(data, 0)
    with pytest.raises(UserError, match=r"=npz is tabular without a valid range; the data are image in 0 to 1\."):
        Ood(("npz",), path=npz(tmp_path, 5, dtype="float32")).wrap(data, 0)
    with pytest.raises(UserError, match=r"=npz has inputs of shape 4 × 8 × 8, the data of 1 × 8 × 8: only pictures"):
        Ood(("npz",), path=npz(tmp_path, 8, 8, 4)).wrap(data, 0)
