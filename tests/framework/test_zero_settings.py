import json
from pathlib import Path
from typing import Any

import pytest

from poise import data_files
from poise.config import CHECKS_OF_A_JOB, ConfigErrors, compose
from poise.errors import UserError
from poise.strategies import ZERO, is_zero, zero_stage
from poise.zero_settings import OURS, SETTINGS, zero_settings


def written(folder: Path, settings: Any) -> str:
    file = folder / "my.json"
    file.write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return str(file)


def test_a_strategy_is_a_file_and_a_file_a_strategy() -> None:
    files = {f"deepspeed_{path.stem}" for path in (data_files.folder("launch") / "deepspeed").iterdir()}
    assert files == set(ZERO)


@pytest.mark.parametrize("name", ZERO)
def test_files_say_what_their_names_say(name: str) -> None:
    found = zero_settings(name)
    zero = found["zero_optimization"]
    assert is_zero(name)
    assert zero["stage"] == zero_stage(name) == int(name[len("deepspeed_zero")])
    assert ("offload_optimizer" in zero) == name.endswith("_offload")
    assert ("offload_param" in zero) == (name == "deepspeed_zero3_offload")
    assert not set(found) & set(OURS)
    assert set(found) <= set(SETTINGS)


def test_ones_own_file_lies_over_the_strategys(tmp_path: Path) -> None:
    file = written(tmp_path, {"zero_optimization": {"reduce_bucket_size": 5}, "wall_clock_breakdown": True})
    found = zero_settings("deepspeed_zero2", file)
    expected = zero_settings("deepspeed_zero2")
    expected["zero_optimization"]["reduce_bucket_size"] = 5
    assert found == expected | {"wall_clock_breakdown": True}
    compose({"strategy": "deepspeed_zero2", "deepspeed": file})


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"gradient_clipping": 1},
            r"sets what the config sets: leave out gradient_clipping \(trainer\.gradient_clip says",
        ),
        ({"optimizer": {}, "bf16": {}}, r"leave out optimizer \(optimizer says that\), bf16 \(trainer\.precision says"),
        ({"zero_optimization": {"stage": 3}}, r"asks for stage 3 of ZeRO and strategy=deepspeed_zero2 for 2\."),
        ({"zero_optimization": {"stage": "2"}}, r"asks for stage '2' of ZeRO and strategy=deepspeed_zero2 for 2\."),
        ({"data_types": {}}, r"leave out data_types \(trainer\.precision says that\)\."),
        ({"zero_optimisation": {}}, r"'zero_optimisation' is no setting with an effect here\. Did you mean 'zero_opt"),
        ({"steps_per_print": "x"}, r"my\.json: steps_per_print has to be a whole number, and is 'x'\."),
        ({"wall_clock_breakdown": 1}, r"my\.json: wall_clock_breakdown has to be true or false, and is 1\."),
        ({"checkpoint": {}}, r"'checkpoint' is no setting with an effect here\."),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "nvme"}}},
            r"my\.json: with offload_optimizer\.device 'nvme' no checkpoint could be written; leave it out\.",
        ),
        ({"zero_optimization": {"offload_optimizer": {"ratio": 0.5}}}, r"offload_optimizer\.ratio 0\.5 no checkpoint"),
        ({"zero_optimization": {"zenflow": {}}}, r"with zenflow \{\} no checkpoint"),
        ('{"gradient_predivide_factor": NaN}', r"my\.json is no JSON: NaN is not a number\."),
        ('{"aio":' * 100_000, r"my\.json is no JSON of settings: it is nested too deeply\."),
        ("{", r"my\.json is no JSON: Expecting"),
        ([1], r"is no mapping of DeepSpeed's settings, such as launch/deepspeed/zero2\.json\."),
        ({"zero_optimization": 2}, r"is no mapping of DeepSpeed's settings"),
    ],
)
def test_a_file_that_does_not_fit(settings: Any, line: str, tmp_path: Path) -> None:
    file = written(tmp_path, settings)
    with pytest.raises(UserError, match=line):
        zero_settings("deepspeed_zero2", file)
    with pytest.raises(ConfigErrors, match=line):
        compose({"strategy": "deepspeed_zero2", "deepspeed": file})


def test_a_file_that_is_not_there_or_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"deepspeed=absent\.json cannot be read: No such file or directory\."):
        compose({"strategy": "deepspeed_zero1", "deepspeed": "absent.json"})
    with pytest.raises(ConfigErrors, match=r"has no effect under strategy=ddp: name one of deepspeed_zero1, "):
        compose({"strategy": "ddp", "deepspeed": written(tmp_path, {})})


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"zero_optimization": {"bucket_size": 5}, "gradient_predivide_factor": 2},
            "bucket_size: Extra inputs",
        ),
        ({"communication_data_type": "fp8"}, "Invalid communication_data_type."),
    ],
)
def test_what_deepspeed_refuses_is_said_before_a_start(settings: Any, line: str, tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    values = {"strategy": "deepspeed_zero2", "deepspeed": written(tmp_path, settings)}
    compose(values)
    with pytest.raises(ConfigErrors, match=f"DeepSpeed does not take what deepspeed= says: {line}"):
        compose(values, CHECKS_OF_A_JOB)
