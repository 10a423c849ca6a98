"""One step on a copy, to find what would never be called before anything is trained."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from poise.assembly import declarations, overrides
from poise.batch import Batch
from poise.models.classifier import Classifier
from poise.registry.hooks import HOOKS
from poise.returns import check_return
from poise.rules import Refusal, void_attacks
from poise.stack import RecipeStack
from poise.step import Step

WATCHED = ("mix", "inner", "attack", "transform", "adjust", "criterion", "objective", "weigh", "penalty")


def refuse_unheard(stack: RecipeStack, model: Classifier, batch: Batch, step: Step) -> None:
    """Train one step on a copy of model and stack; the originals and the random state stay untouched.

    Args:
        stack: the recipes, set up.
        model: the model, set up.
        batch: a few examples, as the step receives them.
        step: a step on one rank; its model and stack are replaced by the copies.

    Raises:
        Refusal: a member's hook is reached by nobody in this stack, or what an attack finds is used by nobody.
        UserError: a hook returns something else than it has to.
    """
    for name, member in stack.items():
        if not (member.brings or member.replays > 1 or any(overrides(member, hook) for hook in HOOKS)):
            raise Refusal("never called", f"{name} has no hook of its own, so it would change nothing: define one")
    for refusal in void_attacks(declarations(dict(stack.items()))):
        raise refusal
    twin_model, twin_stack = copy.deepcopy((model, stack))
    called = _listen(twin_stack)
    step = step.replace(model=twin_model.train(), stack=twin_stack, log=_to_nobody, stop=_to_nobody)
    gpus = [batch.x.device] if batch.x.is_cuda else []  # on others, all of them, a process would start
    with torch.random.fork_rng(gpus), torch.enable_grad():
        _one_step(twin_stack, batch, step)
    for name, member in stack.items():
        for hook in WATCHED:
            if overrides(member, hook) and (name, hook) not in called:
                raise Refusal("never called", _explain(stack, name, hook))


def _to_nobody(*_: object) -> None:
    """What a trial says is nothing of the run."""


def _one_step(stack: RecipeStack, batch: Batch, step: Step) -> None:
    batch = stack.attack(stack.mix(batch, step), step)
    loss = stack.loss(batch, step)
    restore = stack.perturb_weights(loss, step)
    loss()
    restore()


def _listen(stack: RecipeStack) -> set[tuple[str, str]]:
    """Make each member note which of its hooks are called."""
    called: set[tuple[str, str]] = set()
    for name, member in stack.items():
        for hook in WATCHED:
            if overrides(member, hook):
                heard = partial(_heard, called, (name, hook), getattr(member, hook))
                object.__setattr__(member, hook, heard)
    return called


def _heard(called: set[tuple[str, str]], which: tuple[str, str], original: Callable[..., Any], *arguments: Any) -> Any:
    called.add(which)
    given = original(*arguments)
    check_return(*which, given, arguments)
    return given


_CALLERS = {"inner": "attack", "criterion": "objective", "adjust": "objective", "transform": "objective"}


def _explain(stack: RecipeStack, name: str, hook: str) -> str:
    caller = _CALLERS.get(hook, "objective")
    owner, _ = stack.owner(caller)
    if owner == "plain":
        why, way_out = f"no member has an {caller} that uses it", f"add one, or leave out {name}"
    else:
        why, way_out = f"the {caller} of {owner} does not use it", f"leave out {name} or {owner}"
    return f"the {hook} of {name} would never be called in this stack: {why}; {way_out}"
