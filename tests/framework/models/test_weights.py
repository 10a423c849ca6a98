"""model.checkpoint: weights from every kind of file that holds them, and one line for those that do not fit."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from damage import damaged
from poise.card import Card
from poise.errors import UserError
from poise.models.lookup import build
from poise.models.small_bn_cnn import small_bn_cnn
from poise.predictor import Predictor
from poise_recipes import TemperatureScaling
from small_runs import CLASSES, Network, small_fit

SHAPE = (1, 8, 8)
State = dict[str, Tensor]


def trained() -> Network:
    """A network unlike a fresh one, its batch norm's statistics too."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = Network()
        network(torch.rand(16, *SHAPE))
    return network.eval()


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


WRITTEN: dict[str, Callable[[State, Path], None]] = {
    "safetensors": lambda state, path: save_file(state, path.with_suffix(".safetensors")),
    "safetensors-by-another-name": lambda state, path: save_file(state, path),
    "state-dict": torch.save,
    "old-format": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "nested": lambda state, path: torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, path),
    "model": lambda state, path: torch.save({"model": state, "args": ["a"]}, path),
    "model_state_dict": lambda state, path: torch.save({"model_state_dict": state}, path),
    "of-ranks": lambda state, path: torch.save(prefixed(state, "module."), path),
    "compiled-of-ranks": lambda state, path: torch.save({"model": prefixed(state, "module._orig_mod.")}, path),
    "lightning": lambda state, path: torch.save({"state_dict": prefixed(state, "model."), "loops": {}}, path),
    "another-precision": lambda state, path: torch.save(
        {name: value.double() if value.is_floating_point() else value for name, value in state.items()}, path
    ),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_weights_come_from_every_kind_of_file(tmp_path: Path, form: str) -> None:
    network = trained()
    WRITTEN[form](network.state_dict(), tmp_path / "weights.pt")
    (file,) = tmp_path.iterdir()
    model = build(Network, CLASSES, SHAPE, str(file)).eval()
    x = torch.rand(4, *SHAPE)
    assert torch.equal(model(x), network(x))
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_weights_of_a_predictor_go_into_the_same_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    saved = build(small_bn_cnn, CLASSES, SHAPE, width=4)
    card = Card(SHAPE, ("a", "b", "c"), (0.0, 1.0))
    Predictor(saved, card, TemperatureScaling()).save(tmp_path)
    file = tmp_path / "model.safetensors"
    assert any(name.startswith("calibrator.") for name in load_file(file))
    x = torch.rand(4, *SHAPE)
    assert torch.equal(build(small_bn_cnn, CLASSES, SHAPE, str(file), width=4).eval()(x), saved(x))


class Wider(Network):
    """The same network for other classes."""

    def __init__(self) -> None:
        super().__init__()
        self.classify = nn.Linear(54, CLASSES + 2)


def test_a_model_with_other_classes_keeps_a_head_of_its_own(tmp_path: Path) -> None:
    torch.save(trained().state_dict(), tmp_path / "weights.pt")
    fresh = Wider()
    own = {name: value.clone() for name, value in fresh.state_dict().items()}
    with pytest.raises(UserError, match=r"of another shape.*\. model\.new_head=true leaves the file's head out\.$"):
        build(fresh, CLASSES + 2, SHAPE, str(tmp_path / "weights.pt"))
    build(fresh, CLASSES + 2, SHAPE, str(tmp_path / "weights.pt"), new_head=True)
    for name, value in fresh.state_dict().items():
        assert value.equal(own[name] if name.startswith("classify") else trained().state_dict()[name]), name


def test_the_head_of_a_predictor_is_left_out_whatever_it_was(tmp_path: Path) -> None:
    result = small_fit(tmp_path, recipe="projection_head", model="small_bn_cnn", trainer={"max_epochs": 1})
    file = result.path / "predictor/model.safetensors"
    with torch.random.fork_rng():
        made = build(small_bn_cnn, 7, SHAPE, str(file), new_head=True)
    found = load_file(file)
    kept = {name: value for name, value in made.state_dict().items() if name.startswith("backbone.")}
    assert kept
    assert all(value.equal(found[f"model.{name}"]) for name, value in kept.items())
    assert made.head.out_features == 7


def test_a_model_without_a_head_has_none_to_keep(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3, 64)}, tmp_path / "weights.safetensors")

    class Matrix(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 64))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight.T

    with pytest.raises(UserError, match="has no head of its own"):
        build(Matrix(), 3, SHAPE, str(tmp_path / "weights.safetensors"), new_head=True)


def test_a_run_starts_from_a_file_and_resumes_from_its_own_checkpoints(tmp_path: Path) -> None:
    network = trained()
    file = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), file)
    start = {"model": "small_runs:Network", "model.checkpoint": str(file), "optimizer.lr": 1e-9}
    result = small_fit(tmp_path / "run", trainer={"max_epochs": 1}, **start)
    head = Predictor.load(result.path, trust=True).model.head
    torch.testing.assert_close(head.weight, network.classify.weight, rtol=0, atol=1e-6)
    assert f"checkpoint: {file}" in (result.path / "config.yaml").read_text()

    (result.path / "report.json").unlink()
    file.unlink()
    assert small_fit(tmp_path / "run", trainer={"max_epochs": 1}, **start).metrics == result.metrics
    with pytest.raises(UserError, match=r"model\.checkpoint=.*weights\.safetensors: there is no such file"):
        small_fit(tmp_path / "another", trainer={"max_epochs": 1}, **start)


def changed(state: State, **changes: Tensor | None) -> State:
    state = {**state, **{name.replace("__", "."): value for name, value in changes.items() if value is not None}}
    gone = [name.replace("__", ".") for name, value in changes.items() if value is None]
    return {name: value for name, value in state.items() if name not in gone}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classify__bias": None}, r"1 weight of its 9 missing, first 'classify\.bias'\."),
        ({"head__bias": torch.zeros(3)}, r"1 weight in the file unexpected, first 'head\.bias'\."),
        (
            {"classify__bias": torch.zeros(4), "classify__weight": torch.zeros(4, 54)},
            r"2 weights of another shape or kind, first 'classify\.weight': float\[4, 54\] in the file, "
            r"float\[3, 54\] in the model\.",
        ),
        ({"classify__bias": torch.zeros(3, dtype=torch.complex64)}, r"complex64\[3\] in the file, float\[3\]"),
        ({"classify__bias": torch.zeros(3, device="meta")}, r"empty float\[3\] in the file"),
        ({"classify__bias": torch.zeros(3).to_sparse()}, r"sparse_coo float\[3\] in the file"),
        ({"classify__bias": torch.tensor([0.0, torch.nan, 1.0])}, "'classify.bias' has values that are NaN or inf"),
        ({"classify__bias": torch.full((3,), 1e300, dtype=torch.float64)}, "NaN or infinite"),
        ({"a\nb": torch.zeros(3)}, r"first 'a\\nb'"),
    ],
)
def test_weights_that_do_not_fit_are_counted(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    file = tmp_path / "w.pt"
    torch.save(prefixed(changed(trained().state_dict(), **changes), "module."), file)
    with pytest.raises(UserError, match=rf"^model\.checkpoint={file}.*{said}") as raised:
        build(Network, CLASSES, SHAPE, str(file))
    assert "\n" not in str(raised.value)


class Planted:
    """A pickle that says who read it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("unpickled",)


@pytest.mark.parametrize("content", [Planted(), {"state_dict": {}, "hyper_parameters": Planted()}, nn.Linear(2, 2)])
def test_a_pickle_is_never_unpickled(tmp_path: Path, content: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "w.pt"
    torch.save(content, file)
    with pytest.raises(UserError, match="poise unpickles nothing") as raised:
        build(Network, CLASSES, SHAPE, str(file))
    assert f"safetensors.torch.save_file(state, '{tmp_path / 'w.safetensors'}')" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [[], {}, 3, {"epoch": 1}, {"state_dict": {"a": 1.5}}, {3: torch.zeros(2)}])
def test_what_is_no_state_dict_is_said(tmp_path: Path, content: Any) -> None:
    file = tmp_path / "w.pt"
    torch.save(content, file)
    with pytest.raises(UserError, match="state_dict") as raised:
        build(Network, CLASSES, SHAPE, str(file))
    assert "\n" not in str(raised.value)


@pytest.fixture(params=["w.safetensors", "w.pt", "old.pt"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of weights of each format."""
    path = tmp_path / request.param
    state = trained().state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=path.stem == "w")
    return path


def test_no_damage_gets_further_than_one_line(file: Path) -> None:
    whole, random, ended = file.read_bytes(), Random(5), Counter()
    for _ in range(200):
        file.write_bytes(damaged(whole, random))
        try:
            build(Network, CLASSES, SHAPE, str(file))
            ended["loaded"] += 1
        except UserError as error:
            ended["refused" if str(error).isprintable() else "said in more than a line"] += 1
    assert set(ended) <= {"loaded", "refused"}
    assert ended["refused"] > 50


def test_files_cut_anywhere_are_one_line(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cut short or damaged") as raised:
            build(Network, CLASSES, SHAPE, str(file))
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="is a directory: give a file of weights"):
        build(Network, CLASSES, SHAPE, str(tmp_path))
