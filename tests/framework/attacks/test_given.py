import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from poise.attacks.autoattack import AutoAttack
from poise.attacks.deepfool import DeepFool
from poise.attacks.fab import FAB
from poise.attacks.given import check_given
from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.errors import UserError

LINF = Threat("linf", 0.1)
DOORS: dict[str, Callable[[nn.Module, Tensor, Tensor], Any]] = {
    "call": lambda model, x, y: PGD(LINF, steps=2)(model, x, y),
    "autoattack": lambda model, x, y: AutoAttack(LINF).run(model, x, y),
    "fab": lambda model, x, y: FAB(LINF, steps=2).nearest(model, x, y),
    "deepfool": lambda model, x, y: DeepFool(LINF, steps=2).nearest(model, x, y),
}


class Says(nn.Module):
    """What a function of the logits of a linear model makes of them."""

    def __init__(self, classes: int = 3, then: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.linear, self.then = nn.Linear(4, classes), then

    def forward(self, x: Tensor) -> Any:
        return self.then(self.linear(x))


def data(rows: int = 6) -> tuple[Tensor, Tensor]:
    return torch.rand(rows, 4, generator=torch.Generator().manual_seed(0)), torch.arange(rows) % 3


def check(model: nn.Module | None = None, threat: Threat = LINF, **given: Any) -> int:
    x, y = data()
    all_given = {"x": x, "y": y, "seed": 0, "index": torch.arange(6), **given}
    return check_given(model or Says(), threat, **all_given)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_looks_at_inputs_and_labels(door: str) -> None:
    x, y = data()
    with pytest.raises(UserError, match=r"x lies in .* outside the threat's valid range 0…1: scale it to 0…1"):
        DOORS[door](Says(), 255 * x, y)
    with pytest.raises(UserError, match=r"labels y go from 1 to 3, outside 0…2: the model has 3 classes"):
        DOORS[door](Says(), x, y + 1)


def test_a_range_of_its_own_nan_and_rounding_are_let_through() -> None:
    x, _ = data()
    x[0, 0], x[1, 0] = torch.nan, 1 + 2e-7
    assert check(x=x) == 3
    assert check(threat=Threat("linf", 8.0, 0.0, 255.0), x=255 * x) == 3
    assert check(threat=Threat("linf", 8.0, None, None), x=255 * x - 100) == 3


def test_labels_of_any_whole_type_are_the_same_labels() -> None:
    (x, y), model = data(), Says()
    assert check(y=y.to(torch.uint8)) == 3
    assert torch.equal(DOORS["call"](model, x, y.int()), DOORS["call"](model, x, y))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": torch.zeros(6)}, r"y is torch.float32 of shape \[6\]: give whole numbers of shape \[6\]"),
        ({"y": torch.zeros(6, 3).long()}, r"shape \[6, 3\].* of one-hot labels take y.argmax\(1\)"),
        ({"y": torch.zeros(5).long()}, r"y is torch.int64 of shape \[5\]"),
        ({"index": torch.arange(5)}, r"index is torch.int64 of shape \[5\]"),
        ({"seed": None}, "seed=None is not a whole number of 64 bits"),
        ({"seed": 2**63}, "seed=9223372036854775808 is not"),
        ({"y": torch.tensor([0, 1, 2, 0, 1, -1])}, "from -1 to 2, outside 0…2"),
        ({"model": Says(1)}, r"gives \[2, 1\] for 2 inputs: .* two classes or more"),
        ({"model": Says(1, lambda z: z[:, 0])}, r"gives \[2\] for 2 inputs: .*torch.stack"),
        ({"model": Says(3, lambda z: z[:1])}, r"gives \[1, 3\] for 2 inputs"),
        ({"model": Says(3, lambda z: (z, z))}, r"gives a tuple: let it return the logits \[B, C\] alone"),
        ({"x": data()[0].double()}, "weights of torch.float32 and fails on x of torch.float64 .*give x.float"),
        ({"model": Says().bfloat16()}, "weights of torch.bfloat16 .*let the model cast its inputs"),
    ],
)
def test_what_an_attack_cannot_work_on_is_told_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        check(**given)
    assert "\n" not in str(raised.value)


def test_two_classes_are_enough_and_one_is_not() -> None:
    x, y = data()
    assert DOORS["call"](Says(2), x, y % 2).shape == x.shape
    with pytest.raises(UserError, match="two classes or more"):
        AutoAttack(LINF).run(Says(1), x, y * 0)


def test_a_model_that_casts_its_inputs_may_have_any_precision() -> None:
    model = Says().bfloat16()
    model.register_forward_pre_hook(lambda _, inputs: (inputs[0].bfloat16(),))
    x, y = data()
    assert DOORS["call"](model, x, y).dtype == torch.float32


def test_a_model_made_in_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = Says()
    with pytest.raises(UserError, match=r"made or loaded under torch.inference_mode\(\)"):
        check(model)


def test_no_example_is_named_twice() -> None:
    x, y = data()
    with pytest.raises(UserError, match="index of AutoAttack has a position twice"):
        AutoAttack(LINF).run(Says(), x, y, index=y)


def test_what_cannot_be_kept_is_told_before_the_model_is_attacked(tmp_path: Path) -> None:
    model, (x, y), file = Says(), data(), tmp_path / "file"
    file.touch()
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(UserError, match=r"kept=.*file cannot be written: Not a directory"):
        AutoAttack(LINF).run(model, x, y, kept=str(file))
    assert len(passes) == 1  # of the look at what it gives


def test_a_kept_piece_of_another_shape_is_attacked_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, (x, _) = Says(), data()
    y, attack = model(x).argmax(1), AutoAttack(LINF, "rand")
    expected = attack.run(model, x, y, kept=str(tmp_path))
    pieces = list(tmp_path.glob("*/*.safetensors"))
    assert pieces
    for piece in pieces:
        tensors = load_file(piece)
        save_file({**tensors, "x_adv": tensors["x_adv"][:, :2].contiguous(), "broken": ~tensors["broken"]}, piece)
    found = attack.run(model, x, y, kept=str(tmp_path))
    assert torch.equal(found.x_adv, expected.x_adv)
    assert torch.equal(found.right, expected.right)


WRONG = """
import numpy as np
import torch

from poise.attacks import *
from poise.errors import UserError

LINF = Threat("linf", 0.1)

def told(call, *given):
    try:
        call(*given)
    except UserError as error:
        print(error)

for made in (
    lambda: Threat("linf", "0.1"), lambda: Threat("linf", None), lambda: Threat("linf", True),
    lambda: Threat("linf", 0.1, "0", "1"), lambda: PGD("linf"), lambda: AutoAttack("linf"),
    lambda: PGD(LINF, steps=2.5), lambda: Square(LINF, queries=True), lambda: FAB(LINF, restarts="2"),
    lambda: TargetedAPGD(LINF, targets=None), lambda: APGD(LINF, memory=0), lambda: AutoAttack(LINF, memory=1e9),
):
    told(made)

model, x, y = torch.nn.Linear(4, 3), torch.rand(2, 4), torch.tensor([0, 1])
for door in (DeepFool(LINF).nearest, PGD(LINF), AutoAttack(LINF).run, FAB(LINF).nearest):
    told(door, lambda x: model(x), x, y)
    told(door, model, x.numpy(), y)
    told(door, model, x, [0, 1])
    told(door, model, x, y[0])
told(PGD(LINF), model, x, y, 0, np.arange(2))
"""

OF_ANOTHER_KIND = [
    "model is of type function, not a torch.nn.Module: write what it does as the forward of one, with the network "
    "inside, so that the attack can put it into evaluation mode and back.",
    "x is of type ndarray, not a tensor: give torch.as_tensor(x).",
    "y is of type list, not a tensor: give torch.as_tensor(y).",
    "y is a single number: give a tensor with a row for each example.",
]


def test_what_is_of_a_wrong_type_is_told_where_an_attack_is_made_and_where_it_is_called() -> None:
    unchecked = {**os.environ, "POISE_SHAPE_CHECKS": "0"}  # else the tests' own checks are first
    ran = subprocess.run([sys.executable, "-c", WRONG], env=unchecked, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [
        "eps='0.1' is not a finite number >= 0.",
        "eps=None is not a finite number >= 0.",
        "eps=True is not a finite number >= 0.",
        "The valid range 0…1 is not a range: low < high, both finite numbers.",
        "threat='linf' of PGD is not a Threat: give one such as Threat('linf', 8 / 255).",
        "threat='linf' of AutoAttack is not a Threat: give one such as Threat('linf', 8 / 255).",
        "steps=2.5 of PGD is not a whole number >= 1.",
        "queries=True of square is not a whole number >= 1.",
        "restarts='2' of fab is not a whole number >= 1.",
        "targets=None of apgd-t is not a whole number >= 1.",
        "memory=0 of APGD is not a whole number >= 1.",
        "memory=1000000000.0 of AutoAttack is not a whole number >= 1.",
        *(len(DOORS) * OF_ANOTHER_KIND),
        "index is of type ndarray, not a tensor: give torch.as_tensor(index).",
    ]
