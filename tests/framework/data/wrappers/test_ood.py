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
    assert list(made.ood) == ["digits", "npz"]
    digits = made.ood["digits"]
    assert digits.x[:].equal(Digits().load(0).test.x.expand(-1, 3, -1, -1))
    assert set(digits.label.tolist()) == set(made.ood["npz"].label.tolist()) == {-1}
    assert made.ood["npz"].x.shape == (9, 3, 8, 8)
    assert made.ood["npz"].x.dtype == torch.uint8
    assert made.main == data.main
    grey = Ood(("colored_digits",)).wrap(splits(), 0).ood["colored_digits"]
    red, green, _ = data.test.x.unbind(1)
    torch.testing.assert_close(grey.x[:, 0], 0.299 * red + 0.587 * green)


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
    with pytest.raises(UserError, match=r"ood\.sources=npz: data\.path=nowhere\.npz: there is no such file"):
        Ood(("npz",), path="nowhere.npz").wrap(data, 0)
    with pytest.raises(UserError, match=r"ood\.sources=npz: npz needs a value for path"):
        Ood(("npz",)).wrap(data, 0)
    with pytest.raises(UserError, match=r"there is an OOD set 'digits' already"):
        Ood(("digits", "digits")).wrap(data, 0)
    with pytest.raises(UserError, match=r"=npz is tabular without a valid range; the data are image in 0 to 1\."):
        Ood(("npz",), path=npz(tmp_path, 5, dtype="float32")).wrap(data, 0)
    with pytest.raises(UserError, match=r"=npz has inputs of shape 4 × 8 × 8, the data of 1 × 8 × 8: only pictures"):
        Ood(("npz",), path=npz(tmp_path, 8, 8, 4)).wrap(data, 0)
