"""A trained classifier as a part of another one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from poise.card import Card, checked_card
from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.predictor import Predictor
from poise.rebuilding import at_work, model_of


@dataclass(frozen=True)
class Member:
    """A classifier, and what makes it again where its weights stand among others.

    Args:
        model: inputs to logits, in float32.
        description: its card without checksum and calibrator, as one line of JSON.
    """

    model: Classifier
    description: str


def member_of(said: str, given: str, num_classes: int, input_shape: Sequence[int]) -> Member:
    """What a run shipped, or what a description describes, then with weights that are yet to be loaded.

    Args:
        said: the parameter that names it, for messages.
        given: a run's directory or id, a predictor's directory, or a description.
        num_classes: of the data.
        input_shape: of the data.

    Raises:
        UserError: nothing there, a model of other data, or one that is no model of poise's; another predictor that is
            named where one is rebuilt.
    """
    if given.startswith("{"):
        card = _described(said, given)
        model = model_of(card)
    elif at_work():
        raise UserError(f"this predictor's {said} names another one ({given}) instead of holding it.")
    else:
        predictor = _loaded(said, given)
        card, model = predictor.card, predictor.model.to(torch.get_default_dtype())
    _check_fit(said, card, num_classes, input_shape)
    return Member(model, _description(card))


def _loaded(said: str, given: str) -> Predictor:
    if not given:
        raise UserError(f"{said}= is empty: give the directory of a finished run.")
    try:
        return Predictor.load(given)
    except UserError as error:
        raise UserError(f"{said}={given}: {error}") from error


def _description(card: Card) -> str:
    facts: dict[str, Any] = {**json.loads(card.text()), "calibrator": None, "sha256": "0" * 64}
    return json.dumps(facts)


def _described(said: str, given: str) -> Card:
    try:
        facts = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{said} is no description of a predictor: {error}.") from error
    return checked_card(said, facts)


def _check_fit(said: str, card: Card, num_classes: int, input_shape: Sequence[int]) -> None:
    if tuple(card.input_shape) != tuple(input_shape) or len(card.class_names) != num_classes:
        raise UserError(
            f"{said} takes inputs of shape {tuple(card.input_shape)} in {len(card.class_names)} classes; the data have "
            f"{tuple(input_shape)} in {num_classes}: both members have to be of these data."
        )
