"""From a predictor's card to its modules: nothing unregistered is imported, nothing larger than the weights built."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from poise import registry
from poise.card import Card, Described
from poise.config.layers import shown
from poise.config.values import convert
from poise.errors import UserError, nearest
from poise.models.classifier import Classifier
from poise.models.lookup import fitted, made
from poise.models.weights import State

SPARE = 64  # parameters that are replaced while a model is built
ROOM = 2**20  # numbers that are no burden
WHOSE = "this predictor"

_AT_WORK: ContextVar[bool] = ContextVar("at_work", default=False)


@dataclass(frozen=True)
class Parts:
    """What a card describes, with fresh weights.

    Args:
        model: inputs to logits.
        calibrator: logits to calibrated logits; None without one.
    """

    model: Classifier
    calibrator: nn.Module | None


def rebuilt(card: Card, state: State, instance: nn.Module | None, trust: bool) -> Parts:
    """The modules of a card.

    Args:
        card: what to build.
        state: the weights that will be loaded into it.
        instance: the model, where it is somebody's own object.
        trust: whether code that is not registered may be imported.

    Raises:
        UserError: something that is not registered, takes other parameters, cannot be built, or is larger than the
            weights.
    """
    build = _Build(card, trust)
    with _marked(), _in_one_line(WHOSE), torch.random.fork_rng(devices=[]):
        if build.imports:  # of code that is trusted nothing is asked
            return build.parts(instance)
        with _at_most(2 * (len(state) + SPARE)):  # it is built twice
            _check_size(build, state, instance)
            return build.parts(instance)


def at_work() -> bool:
    """Whether a predictor is being rebuilt: its card may be a stranger's, and must not make this process read files."""
    return _AT_WORK.get()


def model_of(card: Card) -> Classifier:
    """The model of a card whose weights stand among those of a larger one, of registered parts alone.

    Raises:
        UserError: something that is not registered, takes other parameters, or cannot be built.
    """
    return _Build(card, trust=False).parts(None).model


def calibrator_of(described: Described, trust: bool, whose: str) -> nn.Module:
    """A calibrator from its name and parameters, unfitted.

    Args:
        described: name and parameters.
        trust: whether code that is not registered may be imported.
        whose: for messages, such as "this predictor".

    Raises:
        UserError: something that is not registered, takes other parameters, or cannot be built.
    """
    with _marked(), _in_one_line(whose):
        calibrator: nn.Module = _made("calibrator", described, trust, whose)
        return calibrator


class _Build:
    """The building of one card, which may be done twice."""

    def __init__(self, card: Card, trust: bool) -> None:
        self.card, self.trust = card, trust
        self.imports = any(":" in named["name"] for named in (card.model, card.head, card.calibrator) if named)

    def parts(self, instance: nn.Module | None) -> Parts:
        model = self._model(instance)
        classes = len(self.card.class_names)
        if self.card.linear_head or self.card.head is not None:
            if not model.feature_width:
                raise UserError("this predictor's head has a model whose features have no known width.")
            model.head = self._head(model.feature_width, classes)
        named = self.card.calibrator
        calibrator = None if named is None else _made("calibrator", named, self.trust, WHOSE)
        return Parts(model, calibrator)

    def _model(self, instance: nn.Module | None) -> Classifier:
        classes, shape = len(self.card.class_names), self.card.input_shape
        if instance is not None:
            return fitted(instance, classes, shape)
        if self.card.model is None:
            raise UserError(
                "this model was somebody's own object: in Python, give Predictor.load(path, model=<an instance of it>)"
            )
        record = _found("model", self.card.model, self.trust, WHOSE)
        params = _checked(record, self.card.model["parameters"], WHOSE)
        if params.get("pretrained") is True:  # a predictor has its weights: none are fetched
            params["pretrained"] = False
        network = made(registry.load(record), classes, shape, params)
        return network if isinstance(network, Classifier) else fitted(network, classes, shape)

    def _head(self, width: int, classes: int) -> nn.Module:
        if self.card.head is None:
            return nn.Linear(width, classes)
        head: nn.Module = _made("recipe", self.card.head, self.trust, WHOSE).head(width, classes)
        return head


def _made(kind: str, described: Described, trust: bool, whose: str) -> Any:
    record = _found(kind, described, trust, whose)
    return registry.build(kind, described["name"], **_checked(record, described["parameters"], whose))


def _found(kind: str, described: Described, trust: bool, whose: str) -> registry.Record:
    """The record of a name; code that is not registered is imported only on trust."""
    name = described["name"]
    if ":" in name and not trust:
        raise UserError(
            f"{whose}'s {kind} is {name!r}, which poise does not know: if you trust that code, give "
            f"trust=true (in Python, trust=True{' or model=<an instance>' if kind == 'model' else ''})"
        )
    record = registry.find(kind, name)
    if kind == "recipe" and "head" not in record.hooks:
        raise UserError(f"{whose}'s head is made by {name}, which makes none.")
    return record


def _checked(record: registry.Record, given: Mapping[str, Any], whose: str) -> dict[str, Any]:
    """Parameters as a config would take them."""
    said = f"{whose}'s {record.kind}, {record.name},"
    known = [parameter.name for parameter in record.parameters]
    for name in given:
        if name not in known:
            raise UserError(f"{said} has no parameter {name!r}.{nearest(name, known)}")
    found: dict[str, Any] = {}
    for parameter in record.parameters:
        if parameter.name not in given:
            if parameter.required:
                raise UserError(f"{said} needs a value for {parameter.name}.")
        elif parameter.type is None:
            found[parameter.name] = given[parameter.name]
        else:
            try:
                found[parameter.name] = convert(given[parameter.name], parameter.type)
            except (ValueError, TypeError, OverflowError) as error:
                value = shown(repr(given[parameter.name]))
                raise UserError(f"{said} has {parameter.name}={value}, which {error}.") from error
    return found


def _check_size(build: _Build, state: State, instance: nn.Module | None) -> None:
    """Build it without memory for a first look: what is larger than its weights is not built for real."""
    try:
        with torch.device("meta"):
            parts = build.parts(instance)
    except UserError:
        raise
    except Exception:  # not everything can be built without memory; for real it will be said what is wrong
        return
    modules = [parts.model, *filter(None, [parts.calibrator])]
    size = sum(value.numel() for module in modules for value in module.state_dict().values())
    there = sum(value.numel() for value in state.values())
    if size > 2 * there + ROOM:  # what is a little too large is told by its names
        raise UserError(f"this predictor describes a model of {size} numbers, and its weights are {there}.")


@contextmanager
def _at_most(count: int) -> Iterator[None]:
    """Stop what makes more parameters than there can be: it might never end."""
    made_so_far = itertools.count(1)

    def look(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if next(made_so_far) > count:
            raise UserError("this predictor describes a model of more parameters than it holds.")

    handle = register_module_parameter_registration_hook(look)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _marked() -> Iterator[None]:
    token = _AT_WORK.set(True)
    try:
        yield
    finally:
        _AT_WORK.reset(token)


@contextmanager
def _in_one_line(whose: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever a constructor raises
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{whose} cannot be rebuilt: {type(error).__name__}: {reason}") from error
