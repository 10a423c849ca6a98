"""model=timm/<architecture>: named like any model, normalised as timm does, trained and shipped."""

import socket
import sys
import time
from pathlib import Path

import pytest
import timm as library
import torch
from safetensors.torch import save_file

from poise import registry
from poise.config import ConfigErrors, parse
from poise.errors import UserError
from poise.models.lookup import build
from poise.models.timm import timm
from poise.predictor import Predictor
from small_runs import CLASSES, small_fit

SMALL = "test_resnet"


def theirs(architecture: str, channels: int = 3, **arguments: object) -> torch.nn.Module:
    torch.manual_seed(5)
    return library.create_model(architecture, num_classes=CLASSES, in_chans=channels, **arguments).eval()


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [(SMALL, (1, 8, 8)), (SMALL, (3, 32, 32)), ("poolformerv2_s12", (3, 32, 32)), ("test_vit", (3, 32, 48))],
)
def test_it_is_timms_network_of_inputs_normalised_as_timms_weights_want_them(
    architecture: str, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    size = {"img_size": shape[1:]} if architecture == "test_vit" else {}
    network = theirs(architecture, shape[0], **size)
    save_file(network.state_dict(), tmp_path / "w.safetensors")  # under timm's own names
    made = registry.load(registry.find("model", f"timm/{architecture}"))
    model = build(made, CLASSES, shape, str(tmp_path / "w.safetensors")).eval()
    mean, std = (torch.tensor(network.pretrained_cfg[name]) for name in ("mean", "std"))
    if shape[0] == 1:
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    x = torch.rand(3, *shape)
    expected = network((x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1))
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-6)
    assert model.feature_width == model.head.in_features > 0
    assert {"layer1", "blocks.0", "stages.0"} & set(model.layer_names)
    assert tuple(model.run(x, keep=True).layers) == model.layer_names
    assert model.channels_last is (architecture != "test_vit")


def test_a_run_trains_it_and_its_predictor_needs_no_download(tmp_path: Path) -> None:
    result = small_fit(tmp_path / "run", model=f"timm/{SMALL}", trainer={"max_epochs": 1, "max_steps": 1})
    card = tmp_path / "run" / "predictor" / "predictor.json"
    assert f'"name": "timm/{SMALL}"' in card.read_text()
    x = torch.rand(5, 1, 8, 8)
    expected = Predictor.load(result.path)(x)
    card.write_text(card.read_text().replace('"pretrained": false', '"pretrained": true'))
    assert torch.equal(Predictor.load(result.path)(x), expected)
    assert torch.isfinite(expected).all()


@pytest.mark.parametrize(
    ("architecture", "shape", "said"),
    [
        (
            "test_resnt",
            (1, 8, 8),
            "model=timm/test_resnt: timm has no architecture of that name. Did you mean 'test",
        ),
        ("hf-hub:timm/x", (1, 8, 8), "model=timm/hf-hub:timm/x: timm has no architecture of that name"),
        ("test_resnet.no", (1, 8, 8), r"model=timm/test_resnet\.no cannot be made for these data: Invalid pretrained"),
        ("test_vit", (1, 8, 8), r"timm/test_vit cannot take inputs of shape \(1, 8, 8\): Input height \(8\) should"),
        (SMALL, (5,), r"model=timm/test_resnet takes images .* inputs are \(5,\): use model=mlp"),
    ],
)
def test_what_timm_cannot_make_is_one_line(architecture: str, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        timm(CLASSES, shape, architecture)
    assert "\n" not in str(raised.value)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where weights that were fetched before would lie; the hub itself is at an address where nobody answers."""
    from huggingface_hub import constants

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = taken.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed}")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("offline", [False, True])
def test_weights_that_cannot_be_fetched_are_one_line_at_once(
    monkeypatch: pytest.MonkeyPatch, hub: Path, offline: bool
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"it waits for {seconds} s"))
    said = r"pretrained=true: its weights .* give model\.checkpoint=<file> model\.new_head=true\."
    with pytest.raises(UserError, match=said) as raised:
        timm(CLASSES, (3, 32, 32), SMALL, pretrained=True)
    assert "\n" not in str(raised.value)


def test_weights_that_were_fetched_before_need_no_hub(hub: Path) -> None:
    kept = library.create_model(SMALL).state_dict()
    repository = hub / f"models--timm--{SMALL}.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "snapshots" / ("a" * 40)).mkdir(parents=True)
    save_file(kept, repository / "snapshots" / ("a" * 40) / "model.safetensors")
    found = timm(1000, (3, 32, 32), SMALL, pretrained=True).state_dict()
    assert torch.equal(found["backbone.conv1.0.weight"], kept["conv1.0.weight"])


def test_its_name_is_a_config_before_timm_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # whoever imports it fails
    params = parse(["model=timm/resnet18", "model.pretrained=true"]).model.params
    assert params == {"pretrained": True, "normalise": True}
    record = registry.find("model", "timm/a.b")
    assert (record.bound, [p.name for p in record.parameters]) == ({"architecture": "a.b"}, ["pretrained", "normalise"])
    for arguments, said in (
        (["model=timm"], "model.architecture is missing: timm needs it (a string). Write model=timm/<architecture>."),
        (["model=timm/resnet81"], "model=timm/resnet81: timm has nothing called 'resnet81'. Did you mean 'resnet18'?"),
        (["model=timm/../x"], "model=timm/../x: timm has nothing called '../x'."),
        (["model=tim/a"], "model=tim/a: there is no model called 'tim/a'. Did you mean 'timm'?"),
        (["model=mlp/a"], "model=mlp/a: there is no model called 'mlp/a'. Did you mean 'mlp'?"),
        (
            ["model=timm/resnet18.a1", "model.pretraind=true"],
            "timm/resnet18.a1 has no parameter 'pretraind'. Did you mean 'pretrained'?",
        ),
    ):
        with pytest.raises(ConfigErrors) as raised:
            parse(arguments)
        assert said in str(raised.value)


def test_inputs_may_be_left_as_they_are() -> None:
    x = torch.rand(2, 3, 32, 32)
    given, normalised = (timm(3, (3, 32, 32), "test_resnet", normalise=normalise) for normalise in (False, True))
    given.backbone.load_state_dict(normalised.backbone.state_dict())
    assert given.mean is None
    assert torch.equal(given.normalise(x), x)
    assert not torch.equal(normalised.normalise(x), x)
