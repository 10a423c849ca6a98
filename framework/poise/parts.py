"""The single things that a config names: data, model, threat, and whatever the registry makes."""

from collections.abc import Mapping
from typing import Any

import torch

from poise import registry
from poise.attacks.threat import Threat
from poise.config import Config, Entry
from poise.config.schema import OBJECT
from poise.data.dataset import Splits
from poise.data.wrapper import Wrapper
from poise.errors import UserError
from poise.given import Objects
from poise.models.classifier import Classifier
from poise.models.lookup import build as build_model
from poise.step import key

NO_GPU = "trainer.accelerator=cuda: PyTorch sees no GPU on this machine; set trainer.accelerator=cpu"


def make(kind: str, entry: Entry) -> Any:
    """The object that an entry of the config names."""
    return registry.build(kind, entry.name, **entry.params)


def made(kind: str, group: str, entries: Mapping[str, Entry]) -> dict[str, Any]:
    """The objects of one of the config's groups, by alias.

    Raises:
        UserError: what one of them says of its parameters, with their path.
    """
    found = {}
    for alias, entry in entries.items():
        try:
            found[alias] = make(kind, entry)
        except UserError as error:
            raise UserError(f"{group}.{alias}: {error}") from error
    return found


def load_splits(config: Config, objects: Objects) -> Splits:
    """The data: given, or what the source loads, as its wrappers make it one after the other."""
    if objects.data is not None:
        return objects.data
    return as_wrapped(config, _checked("data", config.data.name, make("data", config.data).load(config.seed)))


def as_wrapped(config: Config, splits: Splits) -> Splits:
    """Data of a source as the wrappers that a config names make them, one after the other."""
    for alias, entry in config.data.wrappers.items():
        wrapper: Wrapper = make("wrapper", entry)
        wrapper.alias = alias
        splits = _checked("wrapper", entry.name, wrapper.wrap(splits, key(config.seed, "data", alias)))
    return splits


def _checked(kind: str, name: str, made: Any) -> Splits:
    if not isinstance(made, Splits):
        raise UserError(f"the {kind} {name} gives a {type(made).__name__}: it has to give poise.data.dataset.Splits.")
    return made


def load_model(config: Config, objects: Objects, splits: Splits) -> Classifier:
    """The model, given or named, that fits the data; fresh weights are keyed by the seed."""
    source = objects.model or registry.load(registry.find("model", config.model.name))
    parameters = {} if objects.model is not None else config.model.params
    model = config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(config.seed, "model"))
        return build_model(
            source,
            splits.num_classes,
            splits.input_shape,
            checkpoint=model.checkpoint,
            new_head=model.new_head,
            frozen=model.freeze or (),
            channels_last=model.channels_last,
            **parameters,
        )


def threat_of(config: Config, splits: Splits) -> Threat:
    """What an attacker may do to the data.

    Raises:
        UserError: a threat that inputs of their shape cannot be under.
    """
    low, high = splits.valid_range or (None, None)
    threat = Threat(config.threat.name, float(config.threat.eps or 0.0), low, high)
    threat.check(torch.empty(1, *splits.input_shape))
    return threat


def device_of(config: Config) -> torch.device:
    """Where a model that is not trained runs.

    Raises:
        UserError: a GPU is asked for that is not there.
    """
    available = torch.cuda.is_available()
    if config.trainer.accelerator == "cuda" and not available:
        raise UserError(NO_GPU)
    return torch.device("cpu" if config.trainer.accelerator == "cpu" or not available else "cuda")


def described(entry: Entry) -> dict[str, Any] | None:
    """An entry as a predictor's card has it; None for somebody's own object."""
    return None if entry.name.startswith(f"{OBJECT}:") else {"name": entry.name, "parameters": dict(entry.params)}
