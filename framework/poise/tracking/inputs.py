"""The data of a run, as MLflow lists them: a name, a digest, how much of what there is."""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from poise.config import Config, to_mapping
from poise.secrets import redact
from poise.tracking import facts

if TYPE_CHECKING:
    from poise.data.dataset import Arrays, Splits

CONTEXTS = {"train": "training", "test": "evaluation"}  # MLflow's words
DIGESTED = 32 * 2**20  # bytes of a split, about, that its digest is made from
DIGITS = 8
COUNTED = 1000  # classes, beyond which nobody reads how many examples each has


def inputs(config: Config, splits: "Splits", used: Sequence[str]) -> list[dict[str, str]]:
    """Of each split that is used, as the wrappers leave it, the fields of MLflow's Dataset and its context."""
    source = redact(json.dumps(to_mapping(config)["data"]))
    return [
        {
            "context": CONTEXTS[split],
            "name": facts.data_name(config),
            "digest": digest(splits.main[split]),
            "source_type": "poise",
            "source": source,
            "schema": json.dumps(_schema(splits)),
            "profile": redact(json.dumps(_profile(splits, split))),
        }
        for split in used
    ]


def digest(split: "Arrays") -> str:
    """Eight hexadecimal digits that follow from the rows, their labels and groups.

    Of a split above 32 MiB they follow from its number of rows and from rows at equal distances.
    """
    import torch

    found = hashlib.sha256(str(len(split)).encode())
    row = sum(value.nbytes for value in split.fetch(torch.tensor([0])).values())
    step = max(1, -(-len(split) * row // DIGESTED))
    for name, value in sorted(split.fetch(torch.arange(0, len(split), step)).items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().cpu().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:DIGITS]


def _schema(splits: "Splits") -> dict[str, Any]:
    x = str(splits.test.x.dtype).removeprefix("torch.")
    tensors = {"features": (x, splits.input_shape), "targets": ("int64", ())}
    return {
        "mlflow_tensorspec": {
            role: json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *shape]}}])
            for role, (dtype, shape) in tensors.items()
        }
    }


def _profile(splits: "Splits", split: str) -> dict[str, Any]:
    rows, classes = splits.main[split], splits.num_classes
    sizes = {name: len(data) for name, data in splits.main.items()}
    found = {"num_rows": len(rows), "num_classes": classes, "splits": sizes}
    if classes > COUNTED:
        return found
    return found | {
        "classes": dict(zip(splits.class_names, rows.label.bincount(minlength=classes).tolist(), strict=True))
    }
