"""The built-in sources of data."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from poise.data.dataset import Splits
from poise.data.partition import stratified
from poise.data.source import DataSource
from poise.data.sources.colored_digits import ColoredDigits
from poise.data.sources.digits import Digits
from poise.data.sources.npz import Npz
from poise.errors import UserError


def _same(a: Splits, b: Splits) -> bool:
    return all(
        torch.equal(a.main[name].x, b.main[name].x) and torch.equal(a.main[name].label, b.main[name].label)
        for name in a.main
        if len(a.main[name]) == len(b.main[name])
    )


def _keys(splits: Splits) -> dict[str, set[bytes]]:
    return {name: {row.numpy().tobytes() for row in split.x} for name, split in splits.main.items()}


def test_a_source_says_how_to_load() -> None:
    with pytest.raises(NotImplementedError, match="DataSource does not say how to load"):
        DataSource().load(0)


def test_digits_are_split_alike_by_class_and_disjoint() -> None:
    splits = Digits().load(0)
    sizes = {name: len(split) for name, split in splits.main.items()}
    assert sum(sizes.values()) == 1797
    assert sizes["val"] == pytest.approx(180, abs=5)
    assert sizes["calibration"] == pytest.approx(180, abs=5)
    assert sizes["test"] == pytest.approx(360, abs=5)
    assert splits.input_shape == (1, 8, 8)
    assert float(splits.train.x.max()) == 1.0
    assert splits.train.x.dtype == torch.float32
    for split in splits.main.values():
        counts = torch.bincount(split.label, minlength=10)
        assert int(counts.min()) >= 0.9 * len(split) / 10
    keys = _keys(splits)
    assert len(set.union(*keys.values())) == sum(len(rows) for rows in keys.values())


def test_digits_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = Digits().load(3)
    torch.manual_seed(2)
    assert _same(one, Digits().load(3))
    assert not _same(one, Digits().load(4))


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"val": 0.0}, r"data\.val=0\.0 is a share of the data"),
        ({"calibration": 1.0}, r"data\.calibration=1\.0 is a share"),
        ({"val": 0.5, "test": 0.4}, r"data\.val=0\.5, data\.calibration=0\.1, data\.test=0\.4 leave nothing"),
    ],
)
def test_shares_out_of_range(shares: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Digits(**shares).load(0)


def test_a_class_too_small_for_its_share_stays_in_train() -> None:
    rows = stratified(torch.tensor([0] * 20 + [1] * 2), {"val": 0.1}, seed=0)
    assert len(rows["val"]) == 2
    assert sorted(torch.cat(list(rows.values())).tolist()) == list(range(22))


def test_colored_digits_are_made_as_they_say() -> None:
    splits = ColoredDigits(correlation=0.8, test_correlation=-0.8).load(0)
    plain = Digits().load(0)
    assert splits.group_names == ("y=0,red", "y=0,green", "y=1,red", "y=1,green")
    assert splits.num_groups == 4
    for name, split in splits.main.items():
        glyph, digit = plain.main[name].x[:, 0], plain.main[name].label
        assert torch.equal(split.x.sum(1), glyph)
        assert torch.equal(split.label, (digit >= 5).long())
        color = split.x[:, 1].flatten(1).any(1).long()
        assert not split.x[:, 2].any()
        assert torch.equal(split.group, 2 * split.label + color)
        correlation = ((2 * split.label - 1) * (2 * color - 1)).float().mean().item()
        expected = -0.8 if name == "test" else 0.8
        assert abs(correlation - expected) < 5 * math.sqrt((1 - 0.8**2) / len(split))


def test_some_labels_are_flipped_and_the_colour_follows_them() -> None:
    noisy, clean = ColoredDigits(correlation=1.0, label_flips=0.25).load(0), ColoredDigits().load(0)
    flipped = (noisy.train.label != clean.train.label).float().mean().item()
    assert abs(flipped - 0.25) < 5 * math.sqrt(0.25 * 0.75 / len(noisy.train))
    assert set(noisy.train.group.tolist()) == {0, 3}
    halves = torch.bincount(noisy.test.group, minlength=4)
    assert int(halves.min()) > 0.15 * len(noisy.test)


def test_colored_digits_depend_on_the_seed_alone_and_refuse_nonsense() -> None:
    assert _same(ColoredDigits().load(3), ColoredDigits().load(3))
    assert not _same(ColoredDigits().load(3), ColoredDigits().load(4))
    with pytest.raises(UserError, match=r"data\.correlation=1\.5 is a correlation: -1 to 1"):
        ColoredDigits(correlation=1.5)
    with pytest.raises(UserError, match=r"data\.label_flips=0\.6"):
        ColoredDigits(label_flips=0.6)


def _arrays(shape: tuple[int, ...] = (8, 8), n: int = 60, dtype: str = "uint8") -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)

    def x(rows: int) -> np.ndarray:
        pixels = draw.integers(0, 256, (rows, *shape))
        return pixels.astype("uint8") if dtype == "uint8" else (pixels / 255).astype(dtype)

    return {
        "x_train": x(n),
        "y_train": np.arange(n) % 3,
        "x_test": x(12),
        "y_test": (np.arange(12) % 3).astype("uint8"),
    }


def _file(folder: Path, **arrays: np.ndarray) -> str:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize(
    ("given", "expected", "kind"),
    [
        ((8, 9), (1, 8, 9), "image"),
        ((8, 9, 1), (1, 8, 9), "image"),
        ((8, 9, 3), (3, 8, 9), "image"),
        ((8, 9, 4), (4, 8, 9), "image"),
        ((3, 8, 9), (3, 8, 9), "image"),
        ((5,), (5,), "tabular"),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "float64", ">f4"])
def test_npz_shapes(tmp_path: Path, given: tuple[int, ...], expected: tuple[int, ...], kind: str, dtype: str) -> None:
    arrays = _arrays(given, dtype=dtype)
    splits = Npz(_file(tmp_path, **arrays)).load(0)
    assert splits.input_shape == expected
    assert splits.kind == kind
    assert splits.num_classes == 3
    assert splits.class_names == ("0", "1", "2")
    assert splits.train.x.dtype == (torch.uint8 if dtype == "uint8" else torch.float32)
    assert splits.valid_range == (None if kind == "tabular" and dtype != "uint8" else (0.0, 1.0))
    assert {name: len(split) for name, split in splits.main.items()} == {
        "train": 48,
        "val": 6,
        "calibration": 6,
        "test": 12,
    }
    last = arrays["x_test"][..., -1] if given[-1:] in ((1,), (3,), (4,)) else arrays["x_test"][:, -1]
    channel = splits.test.x[:, -1].numpy()
    if len(given) == 2:
        last = arrays["x_test"]
    np.testing.assert_allclose(channel, last.astype(channel.dtype))


def test_npz_with_every_optional_array(tmp_path: Path) -> None:
    arrays = _arrays()
    more = {
        "x_val": arrays["x_test"],
        "y_val": arrays["y_test"][:, None],
        "x_calibration": arrays["x_test"],
        "y_calibration": arrays["y_test"],
        "group_train": np.arange(60) % 2,
        "group_test": np.arange(12) % 4,
        "x_unlabelled": arrays["x_train"][:7],
        "class_names": np.array(["cat", "dog", "owl", "never seen"]),
    }
    splits = Npz(_file(tmp_path, **arrays, **more)).load(0)
    assert splits.class_names == ("cat", "dog", "owl", "never seen")
    assert len(splits.train) == 60
    assert torch.equal(splits.train.group, torch.arange(60) % 2)
    assert splits.val.group is None
    assert splits.num_groups == 4
    assert splits.streams["unlabelled"].label.tolist() == [-1] * 7


def test_npz_with_shifts_and_ood_sets(tmp_path: Path) -> None:
    arrays = _arrays()
    more = {
        "x_shift_fog-3": arrays["x_test"][:5],
        "y_shift_fog-3": arrays["y_test"][:5],
        "x_ood_cats": arrays["x_test"],
    }
    splits = Npz(_file(tmp_path, **arrays, **more)).load(0)
    assert list(splits.further) == ["shifts.fog-3", "ood.cats"]
    assert splits.shifts["fog-3"].label.tolist() == [0, 1, 2, 0, 1]
    assert splits.ood["cats"].label.tolist() == [-1] * 12
    assert splits.shifts["fog-3"].x.equal(splits.test.x[:5])


def test_groups_go_with_their_rows_when_train_is_cut(tmp_path: Path) -> None:
    arrays = _arrays()
    arrays["x_train"][:, 0, 0] = np.arange(60)
    splits = Npz(_file(tmp_path, **arrays, group_train=np.arange(60))).load(0)
    for name in ("train", "val", "calibration"):
        split = splits.main[name]
        assert torch.equal(split.x[:, 0, 0, 0].long(), split.group)
        assert torch.equal(split.label, split.group % 3)


def _changed(**changes: object) -> dict[str, np.ndarray]:
    arrays = {**_arrays(), **changes}
    return {name: array for name, array in arrays.items() if array is not None}


def _nan() -> np.ndarray:
    x = _arrays(dtype="float32")["x_test"]
    x[3, 2, 2] = np.nan
    return x


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (_changed(y_test=None), r"has no y_test; it has x_train, y_train, x_test\.$"),
        ({"x_ood_moss": np.zeros((2, 8, 8), "uint8")}, r"has no x_test; it has x_ood_moss\.$"),
        (_changed(y_tset=np.zeros(3), y_test=None), "Did you mean 'y_tset'"),
        (_changed(g_train=np.zeros(60)), "nothing is known of an array 'g_train'. Did you mean"),
        (
            _changed(y_train=np.arange(60) % 4 + 1),
            r"class 0 has no training example: number classes from 0 without gaps",
        ),
        (_changed(y_train=np.arange(60) % 3 * 10), r"class 1 has no training example: .*, or give class_names\.$"),
        (_changed(x_val=np.zeros((2, 8, 8), "uint8")), "has x_val but no y_val"),
        (_changed(x_shift_fog=np.zeros((2, 8, 8), "uint8")), "has x_shift_fog but no y_shift_fog"),
        (_changed(y_shift_fog=np.zeros(2, int)), "has y_shift_fog but no x_shift_fog"),
        (
            _changed(x_shift_fog=np.zeros((2, 8, 8), "uint8"), y_shift_fog=np.full(2, 9)),
            r"shifts\.fog: label\[0\] is 9, allowed is 0 to 2",
        ),
        (_changed(x_ood_fog=np.zeros((2, 8, 9), "uint8")), r"ood\.fog has inputs of shape \(1, 8, 9\)"),
        (_changed(**{"x_ood_a/b": np.zeros((2, 8, 8), "uint8")}), "a shift or OOD set is called 'a/b': take letters"),
        (_changed(x_ood_test=np.zeros((2, 8, 8), "uint8")), "a shift or OOD set is called 'test'"),
        (_changed(y_train=np.arange(59)), r"y_train has shape \(59,\) for 60 inputs"),
        (_changed(group_train=np.arange(59)), r"group_train has shape \(59,\) for 60 inputs"),
        (_changed(y_train=np.linspace(0, 1, 60)), "y_train holds float64: labels and groups are integers"),
        (_changed(y_train=np.full(60, 1000)), "y_train holds 1000, so there would be 1001 classes"),
        (_changed(y_train=np.arange(60) % 3 - 1), r"label\[0\] is -1, allowed is 0 to 1"),
        (_changed(y_test=np.full(12, 3)), r"test: label\[0\] is 3, allowed is 0 to 2"),
        (_changed(y_test=np.full(12, 2)), "test: every label is 2"),
        (_changed(x_test=_nan()), r"test: x\[3\] holds a value that is not finite"),
        (_changed(x_test=_nan() * 0 + 255.0), r"test: x\[3\] holds a value that is not finite"),
        (_changed(x_test=np.full((12, 8, 8), 200.0)), r"test: x\[0\] holds values from 200 to 200"),
        (_changed(x_test=np.zeros((12, 8, 9), "uint8")), r"test has inputs of shape \(1, 8, 9\)"),
        (_changed(x_train=np.zeros((60, 8, 8), "int64")), "x_train holds int64: give uint8"),
        (_changed(x_train=np.zeros(60, "uint8")), r"x_train has shape \(60,\)"),
        (_changed(x_train=np.zeros((0, 8, 8), "uint8"), y_train=np.zeros(0, int)), "x_train is empty"),
        (_changed(x_test=np.zeros((0, 8, 8), "uint8"), y_test=np.zeros(0, int)), "test is empty"),
        (_changed(class_names=np.array([1, 2, 3])), "class_names holds int64"),
        (_changed(class_names=np.array(["a", "b"])), r"label\[2\] is 2, allowed is 0 to 1"),
    ],
)
def test_npz_files_that_cannot_be_used(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    path = _file(tmp_path, **arrays)
    with pytest.raises(UserError, match=message):
        Npz(path).load(0)


def test_a_missing_or_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.path=.*nowhere\.npz: there is no such file"):
        Npz(str(tmp_path / "nowhere.npz")).load(0)
    with pytest.raises(UserError, match=r"data\.path=.*: this is a directory: give an \.npz file\.$"):
        Npz(str(tmp_path)).load(0)
    path = Path(_file(tmp_path, **_arrays()))
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"is no \.npz archive of arrays: write one with numpy\.savez\.$"):
            Npz(str(path)).load(0)
    path.write_bytes(whole[:middle] + b"\0" * 300 + whole[middle + 300 :])
    with pytest.raises(UserError, match="is not a whole .npz file of plain arrays"):
        Npz(str(path)).load(0)


def test_a_single_array_and_pickled_objects_are_refused(tmp_path: Path) -> None:
    single = tmp_path / "one.npz"
    with single.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"one\.npz is no \.npz archive of arrays"):
        Npz(str(single)).load(0)
    arrays = _changed(y_train=np.array([{}] * 60, dtype=object))
    with pytest.raises(UserError, match=r"data\.npz holds an array of Python objects"):
        Npz(_file(tmp_path, **arrays)).load(0)


def test_without_training_rows_a_file_is_there_to_evaluate_on(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    x, y = np.zeros((6, 8, 8), "uint8"), np.arange(6) % 3
    np.savez(path, x_test=x, y_test=y)
    splits = Npz(str(path)).load(0)
    assert not splits.trains
    assert [len(splits.main[name]) for name in ("train", "val", "calibration", "test")] == [0, 0, 0, 6]
    assert (splits.num_classes, splits.input_shape, splits.num_groups) == (3, (1, 8, 8), 0)
    np.savez(path, x_test=x, y_test=y, x_calibration=x[:4], y_calibration=np.array([0, 1, 2, 3]))
    splits = Npz(str(path)).load(0)
    assert (len(splits.calibration), splits.num_classes) == (4, 4)
    np.savez(path, x_test=x, y_test=y, x_calibration=x[:0], y_calibration=y[:0])
    assert len(Npz(str(path)).load(0).calibration) == 0
    np.savez(path, x_test=x, y_test=np.array([0, 1, 2, 500, 5, 999]))
    assert Npz(str(path)).load(0).num_classes == 1000
    np.savez(path, x_test=x, y_test=y + 10**7)
    with pytest.raises(UserError, match="y_test holds 10000002: number classes from 0, or give class_names"):
        Npz(str(path)).load(0)
    np.savez(path, x_test=x[:0], y_test=y[:0])
    with pytest.raises(UserError, match="x_test is empty"):
        Npz(str(path)).load(0)
