"""Which validation metric chooses the epoch."""

from poise.errors import UserError, nearest


def selections(attacked: bool, grouped: bool) -> list[str]:
    """The validation metrics that may choose an epoch, the default first.

    Args:
        attacked: whether the stack attacks.
        grouped: whether the validation examples have groups.
    """
    accuracies = ["robust_accuracy", "accuracy"] if attacked else ["accuracy"]
    parts = ["class", "group"] if grouped else ["class"]
    return [*accuracies, *(f"worst_{part}_{accuracy}" for part in parts for accuracy in accuracies), "nll"]


def refuse_selection(chosen: str | None, attacked: bool, grouped: bool) -> None:
    """A metric that no validation of a run gives.

    Args:
        chosen: the metric; None for the default.
        attacked: as of `selections`.
        grouped: as of `selections`.

    Raises:
        UserError: it is none of them.
    """
    choices = selections(attacked, grouped)
    if not chosen or chosen in choices:
        return
    why = "it is no metric of the validation"
    if chosen in selections(attacked=True, grouped=True):
        why = "no recipe attacks" if "robust" in chosen and not attacked else "the validation examples have no groups"
    raise UserError(
        f"selection={chosen} chooses no epoch here ({why}); it is one of {', '.join(choices)}."
        + nearest(chosen, choices)
    )
