"""Parts of a model that are not trained."""

from collections.abc import Sequence

from poise.errors import UserError, nearest
from poise.models.classifier import Classifier


def freeze(model: Classifier, names: Sequence[str]) -> None:
    """Keep parts of a model as they are: no gradients, and evaluation mode while the rest is trained.

    So a frozen part is one function of its input throughout: its batch norm keeps its statistics, its dropout drops
    nothing.

    Args:
        model: a Classifier; its parts are `backbone`, `head`, `backbone.layer1` …
        names: of sub-modules, or of single weights; `backbone` is all but the head.

    Raises:
        UserError: a name that nothing has, or of a part without weights.
    """
    modules = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    weights = dict(model.named_parameters(remove_duplicate=False))
    for name in names:
        if name in weights:
            weights[name].requires_grad_(False)
        elif name not in modules:
            known = [*modules, *weights]
            inner = f"backbone.{name}"
            hint = f" Did you mean {inner!r}?" if inner in known else nearest(name, known)
            raise UserError(f"model.freeze={name}: the model has no such part.{hint or _parts(model)}")
        elif not list(modules[name].parameters()):
            raise UserError(f"model.freeze={name}: this part has no weights. Leave it out.")
        else:
            model.keep(modules[name].requires_grad_(False))


def _parts(model: Classifier) -> str:
    inner = [f"backbone.{name}" for name, child in model.backbone.named_children() if list(child.parameters())]
    return f" It has {', '.join(['backbone', *inner, 'head'])}."
