"""Recipe: one training idea, as a class with hooks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from poise.batch import Batch, InnerLoss, Outcome
from poise.losses import soft_cross_entropy
from poise.models.classifier import Classifier
from poise.step import Step


@dataclass(frozen=True)
class Passes:
    """What a step costs, in passes over the batch.

    Args:
        forwards: forward passes of the model.
        input_backwards: backward passes with respect to the inputs alone.
        full_backwards: backward passes through to the parameters, one for each forward pass that has a graph.
        loss_evaluations: how often the whole loss is evaluated and differentiated once more.
        inner: passes of each evaluation of the inner loss beyond the one that attacks count, forward and back to the
            inputs.
    """

    forwards: int = 0
    input_backwards: int = 0
    full_backwards: int = 0
    loss_evaluations: int = 0
    inner: int = 0

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(
            self.forwards + other.forwards,
            self.input_backwards + other.input_backwards,
            self.full_backwards + other.full_backwards,
            self.loss_evaluations + other.loss_evaluations,
            self.inner + other.inner,
        )


@dataclass(frozen=True)
class Task:
    """What a recipe may know of the problem.

    Args:
        num_classes: C.
        num_train: N, examples of the training split; 0 where a foreign loader does not tell.
        class_counts: training examples of each class [C]; None where not known (capability `class_counts`).
        num_groups: G, 0 without groups.
        group_counts: training examples of each group [G]; None where not known (capability `group_counts`).
        feature_width: D, the width of the features the head sees.
        epochs: of the whole run.
        tables: per-example tables [N, …] by name, from earlier runs.
        label: class of each training example [N]; None where not known (capability `class_counts`).
        group: group of each training example [N]; None where not known (capability `group_counts`).
    """

    num_classes: int
    num_train: int = 0
    class_counts: Int[Tensor, " C"] | None = None
    num_groups: int = 0
    group_counts: Int[Tensor, " G"] | None = None
    feature_width: int = 0
    epochs: int = 1
    tables: Mapping[str, Tensor] = field(default_factory=dict)
    label: Int[Tensor, " N"] | None = None
    group: Int[Tensor, " N"] | None = None


class Recipe(nn.Module):
    """One training idea: override the hooks it needs and leave the rest.

    A recipe keeps its constructor's arguments under their own names. Its buffers are equal on all ranks and
    allocated at full size in `setup`; its parameters are optimised with the model's; any other state goes through
    `get_extra_state`. Recipes know each other only by capabilities.

    Attributes:
        paper: authors, title, year, arXiv id.
        provides, needs, after, conflicts: capabilities: what it gives, cannot do without, must come after, excludes.
        relative: its weights are multiplied with others' and scaled to mean one over the global batch; otherwise
            they are coefficients as published.
        couples_batch: its loss is no mean over examples: with accumulation it is per micro-batch.
        replays: how often each batch is trained on in a row.
        per_rank: buffers that differ by rank (an average of batch statistics, say); saved for each.
        collectives: reductions and gathers over ranks in one step.
        unused_parameters: some parameters take no part in some steps.
        accepts: kinds of data it works on.
        brings: members added, with these parameters, for one-owner hooks that nobody in the stack owns.
    """

    paper: ClassVar[str] = ""
    provides: ClassVar[frozenset[str]] = frozenset()
    needs: ClassVar[frozenset[str]] = frozenset()
    after: ClassVar[frozenset[str]] = frozenset()
    conflicts: ClassVar[frozenset[str]] = frozenset()
    relative: ClassVar[bool] = True
    couples_batch: ClassVar[bool] = False
    replays: int = 1
    per_rank: frozenset[str] = frozenset()
    collectives: ClassVar[int] = 0
    unused_parameters: ClassVar[bool] = False
    accepts: ClassVar[frozenset[str]] = frozenset({"image", "sequence", "tabular"})
    brings: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def passes(self) -> Passes:
        """The passes this recipe adds to a plain step of one forward and one full backward."""
        return Passes()

    def setup(self, task: Task, model: Classifier) -> None:
        """Called once, before the optimiser exists: allocate every buffer at its full size."""

    def head(self, in_features: int, num_classes: int) -> nn.Module | None:
        """The classifier's head, a map from features [B, D] to logits [B, C]. One owner."""
        return None

    def sample_weights(self, task: Task, epoch: int) -> Shaped[Tensor, " N"] | None:
        """How often each training example is drawn [N]; members' weights are multiplied.

        int64: exact copies, 0 leaves it out. float: N draws with replacement, in proportion.
        """
        return None

    def mix(self, batch: Batch, step: Step) -> Batch:
        """Mix, mask, add views or enlarge the batch. Chained in the stack's order."""
        return batch

    def inner(self, batch: Batch, step: Step) -> InnerLoss:
        """The function x [B, *input] -> [B] that an attack maximises. One owner; soft cross-entropy if none.

        What does not change across the steps of an attack is computed here, once.
        """
        return lambda x: soft_cross_entropy(step.model(x), batch.target)

    def attack(self, batch: Batch, step: Step) -> Batch:
        """Look for the worst inputs inside the threat and set `x_adv`. One owner."""
        return batch

    def perturb_weights(
        self, gradient: Callable[[], dict[str, Shaped[Tensor, "..."]]], step: Step
    ) -> Mapping[str, Shaped[Tensor, "..."]] | None:
        """Changes {name: Δ} of the model's parameters, added for the loss and taken back before the optimiser.

        `gradient()` is that of the whole loss, over all ranks, by parameter name. One owner.
        """
        return None

    def transform(self, layer: str, h: Float[Tensor, "B ..."], batch: Batch, step: Step) -> Float[Tensor, "B ..."]:
        """Change what the model sees at 'input' or what a layer gives, in the loss's passes. Chained."""
        return h

    def adjust(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Logits and targets as the label loss alone sees them. Chained."""
        return logits, target

    def criterion(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> Float[Tensor, " B"]:
        """The label loss of each example [B]. One owner; soft cross-entropy if none."""
        return soft_cross_entropy(logits, target)

    def objective(self, batch: Batch, step: Step) -> Outcome:
        """The loss of each example [B], label terms through `step.loss`. One owner; the criterion on x if none."""
        clean = step.forward(batch.x, batch)
        return Outcome(step.loss(clean.logits, batch), clean=clean)

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"] | None:
        """Weights >= 0 of the examples' losses [B], taken as constants; members' weights are multiplied."""
        return None

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, ""] | None:
        """A scalar added to the loss, whose mean over ranks is the global penalty. Pure: it changes no state."""
        return None

    def lr_factor(self, step: Step) -> float:
        """A factor on every learning rate; members' factors are multiplied."""
        return 1.0

    def eval_weights(self) -> dict[str, Shaped[Tensor, "..."]] | None:
        """The model's state_dict that validation, checkpoint choice and shipping use. One owner."""
        return None

    def on_epoch_start(self, step: Step) -> None:
        """Before an epoch's first batch."""

    def on_step_end(self, batch: Batch, step: Step) -> None:
        """After the optimiser's step, with the step's last micro-batch."""

    def on_epoch_trained(self, step: Step) -> None:
        """After an epoch's last step, before its validation: weights put in place here get the epoch's score."""

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        """After an epoch's validation, with its metrics, which are of the weights as they are: leave those alone."""

    def after_fit(self, step: Step) -> Mapping[str, Shaped[Tensor, "..."]] | None:
        """Once, on the best weights: may refit the head, and returns per-example tables [N, …] by name or None."""
        return None
