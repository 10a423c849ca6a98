"""All that a run leaves in its directory, to compare with another's bit by bit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

TOLD = {"log.txt", "lock"}  # of how it came about
FOLDERS = {"tracking", "logs"}
TEXTS = {".yaml", ".html", ".txt", ".json", ".jsonl"}


def same(whole: Path, resumed: Path) -> bool:
    """Whether two runs have left the same; fails with the first differences."""
    found = differences(left_behind(whole), left_behind(resumed))
    assert found == [], "\n".join(found[:20])
    return True


def left_behind(run_dir: Path) -> dict[str, Any]:
    """Every file of a run by its name, as what it holds, but for the log and what is tracked elsewhere."""
    paths = ((path, path.relative_to(run_dir)) for path in sorted(run_dir.rglob("*")) if path.is_file())
    return {
        name.as_posix(): content(path, run_dir)
        for path, name in paths
        if name.as_posix() not in TOLD and name.parts[0] not in FOLDERS
    }


def content(path: Path, run_dir: Path) -> Any:
    """What a file holds; of a manifest what it says of the run, for other files are compared themselves."""
    if path.name == "manifest.json":
        return json.loads(path.read_text())["facts"]
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".pt" or path.name == "state":
        return torch.load(path, weights_only=False, map_location="cpu")
    if path.suffix in TEXTS:
        return path.read_text().replace(str(run_dir), "RUN").replace(f">{run_dir.name}<", ">NAME<")
    return path.read_bytes()


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested values are not equal, bit by bit."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [f"{where}: {float((one.double() - other.double()).abs().max()):.3g}"]
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = sorted({*map(str, one), *map(str, other)})
        ones, others = ({str(k): v for k, v in m.items()} for m in (one, other))
        return [d for k in keys for d in differences(ones.get(k), others.get(k), f"{where}/{k}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [d for i, (a, b) in enumerate(zip(one, other, strict=True)) for d in differences(a, b, f"{where}/{i}")]
    plain = int | float | str | bytes | bool | None
    same = one == other if isinstance(one, plain) else type(one) is type(other)
    return [] if same else [f"{where}: {_shown(one)} is not {_shown(other)}"]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:200]} … {text[-200:]}"
