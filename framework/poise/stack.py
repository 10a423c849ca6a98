"""RecipeStack: the ordered recipes of a run. The core talks to the stack, never to a recipe."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from poise.assembly import assembled, declarations, one_replay_count, overrides
from poise.batch import Batch, InnerLoss, Outcome
from poise.models.classifier import Classifier, Output
from poise.modes import frozen_statistics
from poise.recipe import Passes, Recipe, Task
from poise.rules import Refusal, unmet_needs
from poise.step import Step

_WITH_THE_LOSS = ("transform", "adjust", "criterion", "objective", "penalty")  # called at each evaluation of it


class RecipeStack(nn.Module):
    """Ordered recipes that act as one. The empty stack is `plain`.

    Args:
        recipes: recipes in order, or by alias where two would share a name.

    Raises:
        Refusal: two members contradict each other; the message names both sides and the way out.
        UserError: a member is no Recipe.
    """

    def __init__(self, recipes: Sequence[Recipe] | Mapping[str, Recipe] = ()) -> None:
        super().__init__()
        members = assembled(recipes)
        self.members = nn.ModuleDict(members)
        self._plain = Recipe()
        self._owners: dict[str, list[tuple[str, Recipe]]] = {}
        self.replays = one_replay_count(members)

    def items(self) -> list[tuple[str, Recipe]]:
        """The members by name, in order."""
        return cast("list[tuple[str, Recipe]]", list(self.members.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in order."""
        return tuple(self.members)

    def owners(self, hook: str) -> list[tuple[str, Recipe]]:
        """The members that override a hook, in order."""
        if hook not in self._owners:  # asked a dozen times a step
            self._owners[hook] = [(name, member) for name, member in self.items() if overrides(member, hook)]
        return self._owners[hook]

    def owner(self, hook: str) -> tuple[str, Recipe]:
        """The member that owns a one-owner hook, or the plain recipe."""
        return next(iter(self.owners(hook)), ("plain", self._plain))

    def wanted(self, capability: str) -> bool:
        """Whether some member needs a capability."""
        return any(capability in member.needs for _, member in self.items())

    def require(self, provided: Iterable[str], kind: str = "image") -> None:
        """Refuse needs that neither the members nor the run (`provided`) meet, and kinds of data not accepted."""
        members = dict(self.items())
        for refusal in unmet_needs(declarations(members), provided):
            raise refusal
        for name, member in members.items():
            if kind not in member.accepts:
                accepted = ", ".join(sorted(member.accepts))
                raise Refusal("kind of data", f"{name} works on {accepted} data, and this is {kind} data")

    def setup(self, task: Task, model: Classifier) -> None:
        """Give the members the problem and the model, and the model the head that a member makes."""
        _, owner = self.owner("head")
        head = owner.head(model.feature_width, task.num_classes)
        if head is not None:
            model.head = head
        for _, member in self.items():
            member.setup(task, model)

    # -- what a step costs -------------------------------------------------------------------------------------

    def passes(self) -> Passes:
        """The passes of one step, from the members' declarations."""
        total = Passes(forwards=1, full_backwards=1)
        for _, member in self.items():
            total += member.passes()
        filled = int(self.wanted("clean") and not self._objective_gives_clean)
        again, attack = total.loss_evaluations, total.inner * total.input_backwards
        return Passes(
            total.forwards + filled + attack + again * (total.full_backwards + filled),
            total.input_backwards + attack,
            total.full_backwards + again * total.full_backwards,
        )

    @property
    def _objective_gives_clean(self) -> bool:
        _, owner = self.owner("objective")
        return "clean" in owner.provides or owner is self._plain

    def collectives(self) -> int:
        """Reductions and gathers over ranks in one step, from the members' declarations."""
        evaluations = 1 + sum(member.passes().loss_evaluations for _, member in self.items())
        total = int(any(member.relative for _, member in self.owners("weigh")))
        for _, member in self.items():
            in_loss = any(overrides(member, hook) for hook in _WITH_THE_LOSS)
            total += member.collectives * (evaluations if in_loss else 1)
        return total

    # -- the step, in the order things happen ------------------------------------------------------------------

    def mix(self, batch: Batch, step: Step) -> Batch:
        """The batch as the members mix it, in order."""
        for name, member in self.owners("mix"):
            batch = member.mix(batch, step.bound(name))
        return batch

    def attack(self, batch: Batch, step: Step) -> Batch:
        """The batch with `x_adv`, where a member attacks."""
        name, member = self.owner("attack")
        return member.attack(batch, step.bound(name))

    def inner(self, batch: Batch, step: Step) -> InnerLoss:
        """What an attack maximises: a function x [B, *input] -> [B]."""
        name, member = self.owner("inner")
        return member.inner(batch, step.bound(name))

    def loss(self, batch: Batch, step: Step) -> "StepLoss":
        """The whole loss of the batch, to be evaluated once or, where weights are perturbed, twice."""
        return StepLoss(self, batch, step)

    def perturb_weights(self, loss: "StepLoss", step: Step) -> Callable[[], None]:
        """Add the owner's change to the model's weights; returns what takes it back.

        `torch.autograd.grad` fills no `.grad` and starts no gradient hook, so this is safe under data-parallel
        wrappers; the mean over ranks is taken here. Batch norm's statistics are frozen in the ascent.
        """
        owners = self.owners("perturb_weights")
        if not owners:
            return lambda: None
        name, owner = owners[0]
        weights = {n: p for n, p in step.model.named_parameters() if p.requires_grad}

        def gradient() -> dict[str, Shaped[Tensor, "..."]]:
            with frozen_statistics(step.model):
                found = torch.autograd.grad(loss(), list(weights.values()), allow_unused=True)
            used = {n: g for n, g in zip(weights, found, strict=True) if g is not None}
            return _mean_over_ranks(used, step)

        changes = owner.perturb_weights(gradient, step.bound(name)) or {}
        saved = {n: weights[n].detach().clone() for n in changes}
        with torch.no_grad():
            for n, change in changes.items():
                weights[n].add_(change)
        # autocast keeps low-precision copies of weights for as long as its context lasts
        torch.clear_autocast_cache()

        @torch.no_grad()
        def restore() -> None:
            for n, value in saved.items():
                weights[n].copy_(value)

        return restore

    def objective(self, batch: Batch, step: Step) -> Outcome:
        """The owner's outcome, with the clean pass that a member needs and it lacks."""
        name, member = self.owner("objective")
        outcome = member.objective(batch, step.bound(name))
        if outcome.clean is None and self.wanted("clean"):
            with frozen_statistics(step.model):
                outcome = outcome.replace(clean=step.forward(batch.x, batch))
        return outcome

    def forward(self, x: Float[Tensor, "B *input"], batch: Batch, step: Step) -> Output:
        """One pass of the model with the members' transforms."""
        owners = [(member, step.bound(name)) for name, member in self.owners("transform")]
        transform = partial(_transformed, owners, batch) if owners else None
        return step.model.run(x, transform, keep=self.wanted("layers"))

    def adjust(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Logits and targets as the label loss sees them."""
        for name, member in self.owners("adjust"):
            logits, target = member.adjust(logits, target, batch, step.bound(name))
        return logits, target

    def criterion(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> Float[Tensor, " B"]:
        """The label loss [B]."""
        name, member = self.owner("criterion")
        return member.criterion(logits, target, batch, step.bound(name))

    def weights(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"] | None:
        """The examples' weights [B]: absolute ones as they are, relative ones scaled to a global mean of one."""
        relative: Tensor | None = None
        absolute: Tensor | None = None
        for name, member in self.owners("weigh"):
            weight = member.weigh(outcome, batch, step.bound(name))
            if weight is None:
                continue
            if member.relative:
                relative = weight.detach() if relative is None else relative * weight.detach()
            else:
                absolute = weight.detach() if absolute is None else absolute * weight.detach()
        if relative is not None:
            mean = step.ranks.mean(relative.mean())
            relative = relative / mean.clamp(min=torch.finfo(relative.dtype).tiny)
        if relative is None or absolute is None:
            return relative if absolute is None else absolute
        return relative * absolute

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> dict[str, Float[Tensor, ""]]:
        """The members' penalties by name."""
        found = {name: member.penalty(outcome, batch, step.bound(name)) for name, member in self.owners("penalty")}
        return {name: value for name, value in found.items() if value is not None}

    # -- around the steps --------------------------------------------------------------------------------------

    def lr_factor(self, step: Step) -> float:
        """The product of the members' factors on the learning rate."""
        factor = 1.0
        for name, member in self.owners("lr_factor"):
            factor *= member.lr_factor(step.bound(name))
        return factor

    def sample_weights(self, task: Task, epoch: int) -> Shaped[Tensor, " N"] | None:
        """The product of the members' sample weights [N] on the host; int64 where all of them are."""
        found = [
            weights.cpu()
            for _, member in self.owners("sample_weights")
            if (weights := member.sample_weights(task, epoch)) is not None
        ]
        if not found:
            return None
        product = found[0]
        for weights in found[1:]:
            product = product * weights
        return product

    def eval_weights(self) -> dict[str, Shaped[Tensor, "..."]] | None:
        """The state_dict that validation and shipping use, where a member gives one."""
        _, member = self.owner("eval_weights")
        return member.eval_weights()

    def on_epoch_start(self, step: Step) -> None:
        """Tell the members that an epoch starts."""
        for name, member in self.owners("on_epoch_start"):
            member.on_epoch_start(step.bound(name))

    def on_step_end(self, batch: Batch, step: Step) -> None:
        """Tell the members that the optimiser has stepped."""
        for name, member in self.owners("on_step_end"):
            member.on_step_end(batch, step.bound(name))

    def on_epoch_trained(self, step: Step) -> None:
        """Tell the members that an epoch's last step is done."""
        for name, member in self.owners("on_epoch_trained"):
            member.on_epoch_trained(step.bound(name))

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        """Tell the members that an epoch and its validation are over."""
        for name, member in self.owners("on_epoch_end"):
            member.on_epoch_end(step.bound(name), metrics)

    def after_fit(self, step: Step) -> dict[str, Shaped[Tensor, "..."]]:
        """Let the members refit what they refit; returns their per-example tables."""
        tables: dict[str, Shaped[Tensor, "..."]] = {}
        for name, member in self.owners("after_fit"):
            tables |= member.after_fit(step.bound(name)) or {}
        return tables

    def rank_state(self) -> dict[str, Shaped[Tensor, "..."]]:
        """The buffers that differ by rank."""
        return {
            f"{name}.{buffer}": getattr(member, buffer).detach().clone()
            for name, member in self.items()
            for buffer in sorted(member.per_rank)
        }

    def load_rank_state(self, state: Mapping[str, Shaped[Tensor, "..."]]) -> None:
        """Put back what `rank_state` gave, also into a buffer whose size follows the batch and is not yet known."""
        for path, value in state.items():
            name, buffer = path.rsplit(".", 1)
            member = self.members[name]
            setattr(member, buffer, value.detach().clone().to(getattr(member, buffer).device))


class StepLoss:
    """The whole loss of one batch: (weights · loss).mean() + penalties.

    Weights are computed once, at the first evaluation, so both evaluations under perturbed weights minimise the
    same function; `outcome` and `penalties` are the latest evaluation's.
    """

    def __init__(self, stack: RecipeStack, batch: Batch, step: Step) -> None:
        self._stack, self._batch, self._step = stack, batch, step
        self._weights: Tensor | None = None
        self._weighed = False
        self.outcome: Outcome | None = None
        self.penalties: dict[str, Shaped[Tensor, "..."]] = {}

    def __call__(self) -> Float[Tensor, ""]:
        """Evaluate the loss, a scalar with graph."""
        self.outcome = outcome = self._stack.objective(self._batch, self._step)
        if not self._weighed:
            self._weights, self._weighed = self._stack.weights(outcome, self._batch, self._step), True
        weighted = outcome.loss if self._weights is None else self._weights * outcome.loss
        self.penalties = self._stack.penalty(outcome, self._batch, self._step)
        return sum(self.penalties.values(), start=weighted.mean())


def _transformed(
    owners: Sequence[tuple[Recipe, Step]], batch: Batch, layer: str, h: Shaped[Tensor, "..."]
) -> Shaped[Tensor, "..."]:
    for member, bound in owners:
        h = member.transform(layer, h, batch, bound)
    return h


def _mean_over_ranks(gradients: dict[str, Shaped[Tensor, "..."]], step: Step) -> dict[str, Shaped[Tensor, "..."]]:
    if step.ranks.size == 1 or not gradients:
        return gradients
    flat = step.ranks.mean(torch.cat([g.flatten() for g in gradients.values()]))
    parts = flat.split([g.numel() for g in gradients.values()])
    return {n: part.view_as(g) for (n, g), part in zip(gradients.items(), parts, strict=True)}
