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
GLANCED = 2**20  # the same of a shift or an OOD set: there may be many, of which rows take time to read
DIGITS = 8
COUNTED = 1000  # classes, beyond which nobody reads how many examples each has


def inputs(config: Config, splits: "Splits", used: Sequence[str]) -> list[dict[str, str]]:
    """Of each split that is used, as the wrappers leave it, the fields of MLflow's Dataset and its context.

    Named shifts and OOD sets come after test, their names after that of the data: `cifar10,ood/ood.svhn`.
    """
    source, name = redact(json.dumps(to_mapping(config)["data"])), facts.data_name(config)
    found = [(CONTEXTS[split], name, splits.main[split], DIGESTED) for split in used]
    if "test" in used:
        found += [("evaluation", f"{name}/{also}", split, GLANCED) for also, split in splits.further.items()]
    return [
        {
            "context": context,
            "name": called,
            "digest": digest(split, most),
            "source_type": "poise",
            "source": source,
            "schema": json.dumps(_schema(splits, split)),
            "profile": redact(json.dumps(_profile(splits, split))),
        }
        for context, called, split, most in found
    ]


def digest(split: "Arrays", most: int = DIGESTED) -> str:
    """Eight hexadecimal digits that follow from the rows, their labels and groups.

    Of a split above so many bytes they follow from its number of rows and from rows at equal distances.
    """
    import torch

    found = hashlib.sha256(str(len(split)).encode())
    row = sum(value.nbytes for value in split.fetch(torch.tensor([0])).values())
    step = max(1, -(-len(split) * row // most))
    for name, value in sorted(split.fetch(torch.arange(0, len(split), step)).items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().cpu().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:DIGITS]


def _schema(splits: "Splits", split: "Arrays") -> dict[str, Any]:
    x = str(split.x.dtype).removeprefix("torch.")
    tensors = {"features": (x, splits.input_shape), "targets": ("int64", ())}
    return {
        "mlflow_tensorspec": {
            role: json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *shape]}}])
            for role, (dtype, shape) in tensors.items()
        }
    }


def _profile(splits: "Splits", rows: "Arrays") -> dict[str, Any]:
    """How many examples there are, in every split and of each class; those of an OOD set have none."""
    classes = splits.num_classes
    sizes = {name: len(data) for name, data in {**splits.main, **splits.further}.items()}
    found = {"num_rows": len(rows), "num_classes": classes, "splits": sizes}
    if classes > COUNTED or bool((rows.label < 0).any()):
        return found
    return found | {
        "classes": dict(zip(splits.class_names, rows.label.bincount(minlength=classes).tolist(), strict=True))
    }
