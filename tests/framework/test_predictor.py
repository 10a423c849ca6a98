import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from damage import damaged, edited
from poise.card import Card
from poise.errors import UserError
from poise.models.lookup import build
from poise.models.small_bn_cnn import small_bn_cnn
from poise.models.small_cnn import small_cnn
from poise.predictor import Predictor
from small_runs import CLASSES, network

NAMES = ("a", "b", "c")
TEMPERATURE = {"name": "temperature_scaling", "parameters": {}}


class Doubles(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return 2 * logits


def card(**changes: object) -> Card:
    facts = {"model": {"name": "small_cnn", "parameters": {"width": 4}}, **changes}
    return Card(input_shape=(1, 8, 8), class_names=NAMES, valid_range=(0.0, 1.0), **facts)  # type: ignore[arg-type]


def predictor(**changes: object) -> Predictor:
    torch.manual_seed(0)
    return Predictor(small_cnn(CLASSES, (1, 8, 8), width=4), card(**changes))


def test_it_gives_calibrated_probabilities() -> None:
    model = small_cnn(CLASSES, (1, 8, 8), width=4)
    x = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        expected = (2 * model(x)).softmax(1)
    probabilities = Predictor(model, card(), Doubles())(x)
    torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5))
    assert not probabilities.requires_grad


def test_pictures_of_bytes_are_their_share_of_255() -> None:
    pictures = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(predictor()(pictures), predictor()(pictures / 255), rtol=0, atol=0)


def test_batch_norm_is_in_evaluation_mode_whatever_the_model_was_in() -> None:
    torch.manual_seed(0)
    shipped = Predictor(small_bn_cnn(CLASSES, (1, 8, 8), width=4).train(), card())
    x = torch.rand(6, 1, 8, 8)
    torch.testing.assert_close(shipped(x)[:2], shipped(x[:2]), rtol=0, atol=1e-6)


def test_it_stays_in_evaluation_mode_whatever_it_is_part_of() -> None:
    class Noisy(nn.Module):
        def forward(self, logits: Tensor) -> Tensor:
            return torch.dropout(logits, 0.5, self.training)

    shipped = Predictor(small_cnn(CLASSES, (1, 8, 8), width=4), card(), Noisy())
    nn.Sequential(shipped).train()
    x = torch.rand(6, 1, 8, 8)
    assert torch.equal(shipped(x), shipped(x))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 8, 8), r"inputs have shape \(2, 8, 8\); this predictor takes \[N, 1, 8, 8\]"),
        (torch.zeros(1, 8, 8), r"takes \[N, 1, 8, 8\]\. One input alone is x\[None\]\."),
        (torch.zeros(2, 1, 9, 8), "inputs have shape"),
        (torch.tensor(0.5), "inputs have shape"),
        (torch.zeros(0), "inputs have shape"),
        (torch.full((2, 1, 8, 8), 255.0), "inputs go from 255 to 255, outside the valid range 0…1"),
        (torch.full((2, 1, 8, 8), torch.nan), "NaN or infinite"),
        (torch.full((2, 1, 8, 8), 1e300, dtype=torch.float64), r"inputs go from 1e\+300 to 1e\+300, outside the valid"),
        (torch.full((2, 1, 8, 8), -0.1), "outside the valid range"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int64), r"inputs are int64: give floats or uint8 pictures\."),
        (torch.zeros(2, 1, 8, 8, dtype=torch.bool), "inputs are bool: give floats"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.complex64), "inputs are complex64: give floats"),
        (torch.zeros(2, 1, 8, 8, device="meta"), "no dense tensor with values"),
        (torch.zeros(2, 1, 8, 8).to_sparse(), "no dense tensor with values"),
        (np.full((2, 1, 8, 8), "0.5"), "inputs are an array of <U3: give floats"),
        (np.full((2, 1, 8, 8), None), "inputs are an array of object: give floats"),
        (np.zeros((2, 1, 8, 8), np.int32), "inputs are int32: give floats"),
        ([[[[0.5] * 8] * 8]], "inputs are a list: give a tensor or a NumPy array"),
        (None, "inputs are a NoneType"),
        (np.random.default_rng(0), "inputs are a Generator"),
    ],
)
def test_inputs_it_cannot_take_are_refused(x: Any, message: str) -> None:
    for predict in (predictor(), predictor().in_batches):
        with pytest.raises(UserError, match=message) as raised:
            predict(x)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_any_precision_are_inputs(dtype: torch.dtype) -> None:
    x = torch.randint(5, (4, 1, 8, 8)) / 4  # which every one of them has exactly
    assert torch.equal(predictor()(x.to(dtype)), predictor()(x))


def test_arrays_are_inputs_and_many_go_in_batches() -> None:
    array = np.random.default_rng(0).random((7, 1, 8, 8), np.float32)
    array.flags.writeable = False
    shipped = predictor()
    expected = shipped(torch.tensor(array))
    assert torch.equal(shipped(array), expected)
    for size in (1, 3, 7, 100):
        torch.testing.assert_close(shipped.in_batches(array, size), expected, rtol=0, atol=1e-6)
    assert shipped.in_batches(array[:0]).shape == (0, CLASSES)
    assert torch.equal(shipped((255 * array).astype(np.uint8)), shipped(torch.tensor((255 * array).astype(np.uint8))))
    with pytest.raises(UserError, match="size=0"):
        shipped.in_batches(array, 0)


def test_arrays_are_inputs_however_they_lie_in_memory() -> None:
    array = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)
    shipped = predictor()
    expected = shipped(array)
    for same in (array.astype(">f4"), array.astype(np.longdouble), array.transpose(3, 2, 1, 0).copy().T):
        assert torch.equal(shipped(same), expected)
    assert torch.equal(shipped(array[::-1, :, ::-1]), shipped(array[::-1, :, ::-1].copy()))


def test_an_input_has_to_fit_the_precision_of_the_model() -> None:
    unbounded = Predictor(small_cnn(CLASSES, (1, 8, 8), width=4), replace(card(), valid_range=None))
    with pytest.raises(UserError, match=r"inputs go from 1e\+300 to 1e\+300, outside"):
        unbounded(torch.full((1, 1, 8, 8), 1e300, dtype=torch.float64))


def test_bytes_are_no_pictures_where_inputs_have_another_range() -> None:
    wide = Predictor(small_cnn(CLASSES, (1, 8, 8), width=4), replace(card(), valid_range=(0.0, 255.0)))
    assert wide(torch.full((1, 1, 8, 8), 255.0)).shape == (1, CLASSES)
    with pytest.raises(UserError, match=r"inputs are uint8: give floats\."):
        wide(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


def test_probabilities_that_are_none_are_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, logits: Tensor) -> Tensor:
            return logits * torch.inf

    with pytest.raises(UserError, match="probabilities that are not finite"):
        Predictor(small_cnn(CLASSES, (1, 8, 8), width=4), card(), Broken())(torch.rand(2, 1, 8, 8))


def test_no_inputs_give_no_probabilities() -> None:
    assert predictor()(torch.zeros(0, 1, 8, 8)).shape == (0, CLASSES)


def test_it_loads_from_a_run_by_its_id(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = "0123456789abcdef" * 2
    shutil.copytree(shipped, tmp_path / "poise" / "runs" / run / "predictor")  # as `located` keeps what it fetched
    x = torch.rand(3, 1, 8, 8)
    for name in (f"runs:/{run}", run):
        assert torch.equal(Predictor.load(name)(x), Predictor.load(shipped)(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_loads_as_it_was_saved(tmp_path: Path, dtype: torch.dtype) -> None:
    saved = predictor(calibrator={"name": "temperature_scaling", "parameters": {}})
    from poise_recipes import TemperatureScaling

    saved.calibrator = TemperatureScaling()
    saved.calibrator.temperature.fill_(3.0)
    saved.model.to(dtype)
    saved.save(tmp_path / "predictor")
    x = torch.rand(3, 1, 8, 8)
    for path in (tmp_path, tmp_path / "predictor", str(tmp_path)):
        loaded = Predictor.load(path)
        assert torch.equal(loaded(x), saved(x))
        assert next(loaded.model.parameters()).dtype == dtype
        assert tuple(loaded.card.class_names) == NAMES


def test_somebodys_own_model_loads_into_an_instance(tmp_path: Path) -> None:
    own = build(network(), CLASSES, (1, 8, 8))
    saved = Predictor(own, card(model=None))
    saved.save(tmp_path)
    with pytest.raises(UserError, match="somebody's own object: in Python, give Predictor.load"):
        Predictor.load(tmp_path)
    x = torch.rand(3, 1, 8, 8)
    other = network()
    nn.init.zeros_(other.classify.weight)
    assert torch.equal(Predictor.load(tmp_path, model=other)(x), saved(x))


def test_an_instance_does_not_make_its_calibrator_or_head_trusted(tmp_path: Path) -> None:
    Predictor(build(network(), CLASSES, (1, 8, 8)), card(model=None)).save(tmp_path)
    facts = json.loads((tmp_path / "predictor.json").read_text())
    for change, said in (
        ({"calibrator": {"name": "os:system", "parameters": {}}}, "calibrator is 'os:system', which poise does not"),
        ({"linear_head": True, "class_names": [f"{n}" for n in range(10**6)]}, "gives shape .* not logits of shape"),
        ({"input_shape": [2, 8, 8]}, r"cannot take inputs of shape \(2, 8, 8\)"),
    ):
        (tmp_path / "predictor.json").write_text(json.dumps({**facts, **change}))
        with pytest.raises(UserError, match=said):
            Predictor.load(tmp_path, model=network())


def test_code_that_is_not_poises_runs_only_where_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_models.py").write_text(
        "from torch import nn\n"
        "def make(num_classes, width=5):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import their_models

    named = {"name": "their_models:make", "parameters": {"width": 7}}
    saved = Predictor(build(their_models.make, CLASSES, (1, 8, 8), width=7), card(model=named))
    saved.save(tmp_path / "run")
    with pytest.raises(UserError, match="their_models:make.*trust=True"):
        Predictor.load(tmp_path / "run")
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(Predictor.load(tmp_path / "run", trust=True)(x), saved(x))


def test_whoever_may_read_the_card_may_read_the_weights(tmp_path: Path) -> None:
    predictor().save(tmp_path)
    card, weights = (tmp_path / name for name in ("predictor.json", "model.safetensors"))
    assert card.stat().st_mode == weights.stat().st_mode


def test_what_is_no_predictor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no predictor"):
        Predictor.load(tmp_path)
    with pytest.raises(UserError, match="there is no run"):
        Predictor.load(tmp_path / "nowhere")
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match=rf"has not come to its end\. The same .* with run_dir={tmp_path} goes on"):
        Predictor.load(tmp_path)


def small_cnn_of(**parameters: Any) -> dict[str, Any]:
    return {"model": {"name": "small_cnn", "parameters": parameters}}


DEEP = {"name": "mlp", "parameters": {"width": 4, "depth": 10**9}}
CARDS: list[tuple[dict[str, Any] | str, str]] = [
    ("{", "is not a predictor's description: Expecting"),
    ("[]", "it is not a mapping"),
    ("\xff", "description: 'utf-8' codec can't decode byte 0xff"),
    ("[" * 10**6, "nested too deeply"),
    ('{"format": NaN}', "NaN is no number of JSON"),
    ({"format": 99}, "has format 99, this poise reads up to 1: update poise"),
    ({"format": "1"}, "format has to be 1, not '1'"),
    ({"format": True}, "format has to be 1"),
    ({"format": None}, "format has to be 1"),
    ({"surprise": 1}, "'surprise' is nothing it says"),
    ({"class_name": []}, "Did you mean 'class_names'"),
    ({"input_shape": []}, "input_shape has to be the sizes"),
    ({"input_shape": [1, -8, 8]}, "input_shape has to be the sizes"),
    ({"input_shape": [True, 8, 8]}, "input_shape has to be the sizes"),
    ({"input_shape": [1, 8.0, 8]}, "input_shape has to be the sizes"),
    ({"input_shape": [1, 10**6, 10**6]}, "input_shape has to be the sizes"),
    ({"input_shape": [1, 10**400]}, "input_shape has to be the sizes"),
    ({"input_shape": [64]}, r"takes images .* inputs are \(64,\)"),
    ({"class_names": "abc"}, "class_names has to be a list of different names"),
    ({"class_names": ["a", "a"]}, "class_names has to be a list of different names"),
    ({"class_names": ["a", 3]}, "class_names has to be a list of different names"),
    ({"class_names": ["a", "b"]}, "another shape or kind, first 'model.head.weight'"),
    ({"class_names": [f"{n}" for n in range(10**5)]}, "of 3301072 numbers, and its weights are 1171"),
    ({"valid_range": [1.0, 0.0]}, "valid_range has to be a lower and a higher number"),
    ({"valid_range": [0.0, 1.0, 2.0]}, "valid_range has to be"),
    ({"valid_range": [False, True]}, "valid_range has to be"),
    ({"valid_range": ["0", "1"]}, "valid_range has to be"),
    ({"valid_range": 1}, "valid_range has to be"),
    ({"linear_head": "no"}, "linear_head has to be true or false"),
    ({"linear_head": True, "head": {"name": "mixup", "parameters": {}}}, "two heads"),
    ({"head": {"name": "mixup", "parameters": {}}}, "head is made by mixup, which makes none"),
    ({"model": "small_cnn"}, "model has to be a name and parameters"),
    ({"model": {"name": "small_cnn"}}, "model has to be a name and parameters"),
    ({"model": {"name": 3, "parameters": {}}}, "model has to be a name and parameters"),
    ({"model": {"name": "os:system", "parameters": {"command": "false"}}}, "'os:system', which poise does not know"),
    ({"model": {"name": "timm/os:system", "parameters": {}}}, "'timm/os:system', which poise does not know"),
    ({"model": {"name": "small_cn", "parameters": {}}}, "Did you mean 'small_cnn'"),
    ({"model": {"name": "trades", "parameters": {}}}, "There is no model called 'trades'"),
    ({"model": {"name": "timm/no", "parameters": {}}}, "timm has no architecture"),
    ({"model": {"name": "timm/test_vit", "parameters": {}}}, r"cannot take inputs of shape \(1, 8, 8\)"),
    ({"model": {"name": "timm/resnet10t", "parameters": {}}}, "numbers, and its weights are 1171"),
    ({"model": {"name": "timm/resnet152", "parameters": {}}}, "of more parameters than it holds"),
    (small_cnn_of(widht=4), "small_cnn, has no parameter 'widht'. Did you mean 'width'"),
    (small_cnn_of(width="four"), "has width='four', which is not an integer"),
    (small_cnn_of(width=4.0), "which is not an integer"),
    (small_cnn_of(width=[4]), "which is not an integer"),
    (small_cnn_of(width=0), "which has to be 1 or more"),
    (small_cnn_of(width=10**6), "of 63000039000007 numbers, and its weights are 1171"),
    (small_cnn_of(width=10**30), "cannot be rebuilt"),
    ({"model": DEEP}, "of more parameters than it holds"),
    ({"calibrator": {"name": "os:system", "parameters": {}}}, "calibrator is 'os:system'"),
    ({"calibrator": {"name": "trades", "parameters": {}}}, "There is no calibrator called 'trades'"),
    ({"calibrator": None}, "2 weights in the file unexpected, first 'calibrator.temperature'"),
    ({"sha256": "0" * 64}, "was changed after it was written"),
    ({"sha256": 3}, "sha256 has to be 64"),
]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor as a run leaves it."""
    from poise_recipes import TemperatureScaling

    directory = tmp_path_factory.mktemp("shipped")
    model = small_cnn(CLASSES, (1, 8, 8), width=4)
    Predictor(model, card(calibrator=TEMPERATURE), TemperatureScaling()).save(directory)
    return directory


@pytest.fixture
def copied(shipped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped, tmp_path / "copied"))


@pytest.mark.parametrize(("content", "said"), CARDS, ids=range(len(CARDS)))
def test_a_description_that_fools_nobody(copied: Path, content: dict[str, Any] | str, said: str) -> None:
    file = copied / "predictor.json"
    text = content if isinstance(content, str) else json.dumps({**json.loads(file.read_text()), **content})
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=said) as raised:
        Predictor.load(copied)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["input_shape", "class_names", "valid_range", "format", "sha256"])
def test_a_description_says_all(copied: Path, name: str) -> None:
    facts = json.loads((copied / "predictor.json").read_text())
    del facts[name]
    (copied / "predictor.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=f"{name} is missing"):
        Predictor.load(copied)


def rewritten(directory: Path, content: dict[str, Tensor] | bytes) -> None:
    """Other weights under a checksum that is theirs."""
    file = directory / "model.safetensors"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        save_file(content, file)
    facts = json.loads((directory / "predictor.json").read_text())
    facts["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (directory / "predictor.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("model.head.bias", None, "1 weight of its 14 missing, first 'model.head.bias'"),
        ("model.extra", torch.zeros(2), "1 weight in the file unexpected, first 'model.extra'"),
        (
            "model.head.bias",
            torch.zeros(4),
            r"first 'model.head.bias': float\[4\] in the file, float\[3\] in the model",
        ),
        ("model.head.bias", torch.zeros(3, dtype=torch.int32), r"int32\[3\] in the file"),
        ("model.head.bias", torch.tensor([0.0, torch.inf, 0.0]), "'model.head.bias' has values that are NaN or inf"),
    ],
)
def test_weights_that_do_not_fit_are_refused(copied: Path, name: str, value: Tensor | None, said: str) -> None:
    state = {**load_file(copied / "model.safetensors"), name: value}
    rewritten(copied, {name: value for name, value in state.items() if value is not None})
    with pytest.raises(UserError, match=said):
        Predictor.load(copied)


def test_weights_that_were_changed_or_cannot_be_read_are_refused(copied: Path) -> None:
    file = copied / "model.safetensors"
    save_file({**load_file(file), "calibrator.temperature": torch.tensor(9.0)}, file)
    with pytest.raises(UserError, match=r"model\.safetensors was changed after it was written"):
        Predictor.load(copied)
    rewritten(copied, b"torn")
    with pytest.raises(UserError, match=r"model\.safetensors holds no weights"):
        Predictor.load(copied)
    file.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read: No such file"):
        Predictor.load(copied)


def test_a_save_that_fails_leaves_the_predictor_that_was_there(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(3, 1, 8, 8)
    before = Predictor.load(copied)(x)
    full = OSError("No space left on device")
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(full))
    with pytest.raises(OSError, match="No space"):
        predictor().save(copied)
    monkeypatch.undo()
    assert torch.equal(Predictor.load(copied)(x), before)
    predictor().save(copied)
    assert {path.name for path in copied.iterdir()} == {"model.safetensors", "predictor.json"}
    assert torch.equal(Predictor.load(copied)(x), predictor()(x))


def test_it_loads_with_torch_and_safetensors_alone(shipped: Path) -> None:
    """And with what says types in a line: jaxtyping, annotated_types."""
    code = textwrap.dedent(
        """
        import sys
        others = ("lightning", "pytorch_lightning", "torchmetrics", "mlflow", "sklearn", "scipy", "pandas", "omegaconf",
                  "yaml", "rich", "matplotlib", "timm", "torchvision", "beartype", "pydantic", "deepspeed")
        sys.modules.update(dict.fromkeys(others))
        import torch
        from poise import Predictor
        print(Predictor.load(sys.argv[1]).in_batches(torch.rand(5, 1, 8, 8)).sum().item())
        try:
            Predictor.load(sys.argv[1], model=torch.nn.Linear)
        except ValueError as error:
            print(error)
        allowed = {"torch", "torchgen", "safetensors", "numpy", "tqdm", "jaxtyping", "annotated_types", "poise",
                   "poise_recipes", "typing_extensions", "wadler_lindig", "cuda", *sys.stdlib_module_names}
        import importlib.metadata
        packages = {name for name in importlib.metadata.packages_distributions()}
        used = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
        print(sorted(name for name in used & packages - allowed if not name.startswith("_")))
        """
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(shipped)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    total, said, unexpected = done.stdout.splitlines()
    assert said == "Predictor.load(model=…) was given a type: give a torch.nn.Module."
    assert float(total) == pytest.approx(5, abs=1e-5)
    assert unexpected == "[]"


def loaded_or_refused(directory: Path) -> str:
    """What comes of loading: the one line, or that probabilities are probabilities."""
    try:
        found = Predictor.load(directory)(torch.rand(2, 1, 8, 8))
    except UserError as error:
        return "refused" if str(error).isprintable() else "said in more than a line"
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(1), torch.ones(2), rtol=0, atol=1e-5)
    return "loaded"


def test_no_damage_to_the_description_gets_further_than_one_line(copied: Path) -> None:
    file = copied / "predictor.json"
    whole, random = file.read_bytes(), Random(0)
    ended = Counter()
    for _ in range(200):
        file.write_bytes(edited(whole, random) if random.random() < 0.5 else damaged(whole, random))
        ended[loaded_or_refused(copied)] += 1
    assert set(ended) <= {"refused", "loaded"}
    assert ended["refused"] > 100


def test_no_damage_to_the_weights_gets_further_than_one_line(copied: Path) -> None:
    """Under their own checksum and under another one."""
    file = copied / "model.safetensors"
    whole, random = file.read_bytes(), Random(1)
    ended = Counter()
    for number in range(200):
        torn = damaged(whole, random)
        rewritten(copied, torn)
        if number % 4 == 0:
            file.write_bytes(damaged(torn, random))
            assert loaded_or_refused(copied) == "refused"
        else:
            ended[loaded_or_refused(copied)] += 1
    assert set(ended) == {"refused", "loaded"}
    assert ended["refused"] > 50
    assert ended["loaded"] > 10
