"""What flows through a step: the examples, what is known of them, and what became of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from poise.data.checks import check_tensor
from poise.errors import UserError
from poise.models.classifier import Output

Inputs = Callable[[Float[Tensor, "B *input"]], Float[Tensor, "B *input"]]
InnerLoss = Callable[[Float[Tensor, "B *input"]], Float[Tensor, " B"]]


@dataclass(frozen=True)
class Batch:
    """The examples of one step and all that is known of them.

    Frozen: a recipe returns `batch.replace(...)`. `label`, `index` and `group` are always those of an example's
    first parent, as the data set gave them; what a recipe mixes into it stands in `target`, `parents` and `share`.

    Args:
        x: inputs, at least float32, in the data's valid range (the model normalises inside).
        label: classes in 0…C-1.
        target: a distribution over the classes; one-hot until something mixes it.
        index: positions in the training set; None under a loader that does not tell them.
        group: sub-populations, from 0.
        raw: the inputs as the data have them; None where nothing augments.
        x_adv: the worst inputs an attack found.
        kappa: share of the attack's iterates that were still classified right, in [0, 1].
        views: further augmented copies of `x`.
        streams: batches of other loaders, by name.
        copies: how often each row of the loader's batch stands here, adjacent.
        parents: training-set positions mixed into each example.
        share: how much of each parent an example holds; rows sum to one.
        notes: recipes' private records; use `note` and `noted`.

    Raises:
        ValueError: a field has another number of rows than `x`.
    """

    x: Float[Tensor, "B *input"]
    label: Int[Tensor, " B"]
    target: Float[Tensor, "B C"]
    index: Int[Tensor, " B"] | None = None
    group: Int[Tensor, " B"] | None = None
    raw: Float[Tensor, "B ..."] | None = None
    x_adv: Float[Tensor, "B *input"] | None = None
    kappa: Float[Tensor, " B"] | None = None
    views: tuple[Float[Tensor, "B *input"], ...] = ()
    streams: Mapping[str, "Batch"] = field(default_factory=dict)
    copies: int = 1
    parents: Int[Tensor, "B P"] | None = None
    share: Float[Tensor, "B P"] | None = None
    notes: Mapping[int, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        named = ("label", "target", "index", "group", "raw", "x_adv", "kappa", "parents", "share")
        rows = {name: len(value) for name in named if (value := getattr(self, name)) is not None}
        rows |= {f"views[{i}]": len(view) for i, view in enumerate(self.views)}
        wrong = {name: n for name, n in rows.items() if n != len(self.x)}
        if wrong:
            raise ValueError(f"x has {len(self.x)} rows, but {wrong}: change every field of a batch together")

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, x: Shaped[Tensor, "B *input"], label: Int[Tensor, " B"], num_classes: int, **known: Any) -> "Batch":
        """A batch of inputs [B, *input] (uint8 becomes [0, 1]) and classes [B], with one-hot targets.

        Where a class is not known (-1, in streams) the target is uniform.
        """
        x, label = as_input(x), label.long()
        target = x.new_zeros(len(label), num_classes).scatter_(1, label.clamp(min=0)[:, None], 1.0)
        target = target.masked_fill_((label < 0)[:, None], 1 / num_classes)
        return cls(x=x, label=label, target=target, **known)

    @property
    def attacked(self) -> Float[Tensor, "B *input"]:
        """What an attack has found.

        Raises:
            ValueError: none has run.
        """
        if self.x_adv is None:
            raise ValueError("no attack has run: declare needs = frozenset({'attack'}), or call an attack first")
        return self.x_adv

    def replace(self, **changes: Any) -> "Batch":
        """The same batch with other values for the fields named."""
        return replaced(self, **changes)

    def note(self, recipe: object, value: object) -> "Batch":
        """The same batch with a recipe's private record, for its later hooks."""
        return self.replace(notes={**self.notes, id(recipe): value})

    def noted(self, recipe: object) -> Any:
        """A recipe's private record, or None."""
        return self.notes.get(id(recipe))

    def lookup(self, table: Shaped[Tensor, "N ..."]) -> Shaped[Tensor, "B ..."]:
        """What a per-example table [N, …] says of each row [B, …]: the shares' mean where rows were mixed."""
        if self.parents is not None and self.share is not None:
            found = table[self.parents]
            share = self.share.to(torch.promote_types(found.dtype, torch.float32))  # of a table of integers as well
            share = share.view(*share.shape, *[1] * (found.ndim - 2))
            return (share * found).sum(1)
        if self.index is None:
            raise UserError("the loader gives no `index`, so a per-example table cannot be looked up")
        return table[self.index]

    def blend(self, partner: Int[Tensor, " B"], share: Float[Tensor, " B"], mix: Inputs) -> "Batch":
        """Each row with `share` [B] of itself and the rest of row `partner` [B]; `mix` blends `x` and each view."""
        own = share[:, None]
        changes: dict[str, Any] = {
            "x": mix(self.x),
            "views": tuple(mix(view) for view in self.views),
            "target": own * self.target + (1 - own) * self.target[partner],
        }
        if self.index is not None:
            parents, shares = self.lineage()
            changes["parents"] = torch.cat([parents, parents[partner]], 1)
            changes["share"] = torch.cat([own * shares, (1 - own) * shares[partner]], 1)
        return self.replace(**changes)

    def lineage(self) -> tuple[Int[Tensor, "B P"], Float[Tensor, "B P"]]:
        """The parents and shares [B, P] of each row; itself alone where nothing was mixed."""
        if self.parents is not None and self.share is not None:
            return self.parents, self.share
        if self.index is None:
            raise UserError("the loader gives no `index`, so the parents of mixed examples are not known")
        return self.index[:, None], torch.ones_like(self.target[:, :1])

    def interleave(self, other: "Batch") -> "Batch":
        """This batch's rows and `other`'s, each pair adjacent: an enlarged batch of 2·B rows."""

        def both(a: Any, b: Any) -> Any:
            return None if a is None or b is None else torch.stack([a, b], 1).flatten(0, 1)

        fields = ("x", "label", "target", "index", "group", "raw", "x_adv", "kappa")
        changes = {name: both(getattr(self, name), getattr(other, name)) for name in fields}
        if self.index is not None and (self.parents is not None or other.parents is not None):
            (p, s), (q, t) = self.lineage(), other.lineage()
            width = max(p.shape[1], q.shape[1])
            changes["parents"] = both(_widen(p, width, fill=None), _widen(q, width, fill=None))
            changes["share"] = both(_widen(s, width, fill=0.0), _widen(t, width, fill=0.0))
        views = tuple(both(a, b) for a, b in zip(self.views, other.views, strict=True))
        return self.replace(**changes, views=views, copies=2 * self.copies)


def _widen(rows: Tensor, width: int, fill: float | None) -> Tensor:
    """Rows [B, P] with further columns: a constant, or the first column again (a parent with no share)."""
    extra = rows[:, :1].expand(-1, width - rows.shape[1])
    return torch.cat([rows, extra if fill is None else torch.full_like(extra, fill)], 1)


def as_input(x: Shaped[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
    """Inputs as the step takes them: uint8 pictures scaled to [0, 1], anything else at least float32."""
    if x.dtype == torch.uint8:
        return x.to(torch.float32) / 255
    return x if x.dtype == torch.float64 else x.to(torch.float32)


@dataclass(frozen=True)
class Outcome:
    """What an objective gives: each example's loss [B], with graph, and the passes it was computed from.

    `terms` are values for the log by name: a tensor of any shape is logged as its mean.
    """

    loss: Float[Tensor, " B"]
    clean: Output | None = None
    adv: Output | None = None
    terms: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def on(self) -> Output:
        """The pass on the inputs trained on: the adversarial one where there is one."""
        output = self.adv or self.clean
        if output is None:
            raise ValueError("this objective returned neither a clean nor an adversarial output")
        return output

    def replace(self, **changes: Any) -> "Outcome":
        """The same outcome with other values for the fields named."""
        return replaced(self, **changes)


@dataclass(frozen=True)
class Predictions:
    """What a model says of a whole split, in index order, the same on every rank."""

    logits: Float[Tensor, "N C"]
    features: Float[Tensor, "N D"] | None
    label: Int[Tensor, " N"]
    group: Int[Tensor, " N"] | None
    index: Int[Tensor, " N"]

    @classmethod
    def of(cls, logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]) -> "Predictions":
        """Those of any model, which stand by themselves.

        Raises:
            UserError: something else than tensors.
        """
        logits, label = check_tensor(logits, "logits"), check_tensor(label, "label")
        return cls(logits, None, label, None, torch.arange(len(label), device=label.device))

    @property
    def right(self) -> Bool[Tensor, " N"]:
        """Which examples are predicted as they are labelled; the lowest class wins a tie."""
        return self.logits.argmax(1) == self.label

    def rows(self, chosen: Shaped[Tensor, "..."]) -> "Predictions":
        """Those of the chosen examples: positions, or a mask [N]."""
        features, group = self.features, self.group
        return Predictions(
            logits=self.logits[chosen],
            features=None if features is None else features[chosen],
            label=self.label[chosen],
            group=None if group is None else group[chosen],
            index=self.index[chosen],
        )
