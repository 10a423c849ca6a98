"""A calibrator is read again as it was written, and nothing else is taken for one."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from poise import UserError, registry
from poise.batch import Predictions
from poise.calibrator_file import NOTE, CalibratorFile

LOGITS = 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()
NOTED = {"format": 1, "name": "temperature_scaling", "parameters": {}, "class_names": ["a", "b"], "sha256": ""}


def predictions() -> Predictions:
    label = torch.multinomial((LOGITS / 3).softmax(1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    return Predictions(LOGITS, None, label, group=None, index=torch.arange(50))


@pytest.mark.parametrize("name", registry.records("calibrator"))
def test_what_is_read_is_what_was_written(name: str, tmp_path: Path) -> None:
    calibrator = registry.build("calibrator", name).fit(predictions(), predictions())
    path = tmp_path / "kept.safetensors"
    path.write_bytes(CalibratorFile(calibrator, {"name": name, "parameters": {}}, ("a", "b", "c")).bytes())
    found = CalibratorFile.read(path)
    assert found.class_names == ("a", "b", "c")
    assert found.described == {"name": name, "parameters": {}}
    assert torch.equal(found.calibrator(LOGITS), calibrator(LOGITS))


@pytest.mark.parametrize(
    ("note", "message"),
    [
        ({**NOTED, "format": 2}, "has format 2, this poise reads up to 1: update poise"),
        ({**NOTED, "class_names": ["a"]}, "holds no calibrator"),
        ({**NOTED, "class_names": [1, 2]}, "holds no calibrator"),
        ({**NOTED, "parameters": []}, "holds no calibrator"),
        ({**NOTED, "name": "os:system"}, "'s calibrator is 'os:system', which poise does not know: if you trust"),
        ({**NOTED, "name": "temperature_scalin"}, "Did you mean 'temperature_scaling'"),
        ({**NOTED, "parameters": {"low": 1}}, "has no parameter 'low'"),
        (NOTED, "does not fit temperature_scaling: 1 weight of its 2 missing, first 'hit_bound'"),
        ([], "holds no calibrator"),
    ],
)
def test_what_is_no_calibrator_is_refused(note: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    path.write_bytes(save({"temperature": torch.ones(())}, {NOTE: json.dumps(note)}))
    with pytest.raises(UserError, match=message):
        CalibratorFile.read(path)


@given(place=st.integers(0, 2**20), bit=st.integers(0, 7))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_damaged_file_is_refused(tmp_path: Path, place: int, bit: int) -> None:
    calibrator = registry.build("calibrator", "temperature_scaling").fit(predictions())
    whole = CalibratorFile(calibrator, {"name": "temperature_scaling", "parameters": {}}, ("a", "b", "c")).bytes()
    damaged = bytearray(whole)
    damaged[-1 - place % 17] ^= 1 << bit  # among the values: T in float64, the flag, and one byte of the header
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(bytes(damaged))
    with pytest.raises(UserError):
        CalibratorFile.read(path)
