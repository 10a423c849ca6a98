"""`${path}` in files and presets: the value that another path of the config has."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from poise.config.draft import BROKEN, Draft
from poise.config.layers import Layer, shown, typed
from poise.config.schema import NAMED
from poise.errors import nearest_path

_START = re.compile(r"(\$+)\{")
_PATH = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)\}", re.ASCII)
_ROUNDS = 5  # a value may depend on another by the schema (devices on GPUs), which is one round more

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Reference:
    """What stands between `${` and `}`."""

    path: str


Text = tuple[str | Reference, ...]


@dataclass(frozen=True, eq=False)
class Template:
    """A value of a file with references in it.

    Args:
        texts: one, or those of a list.
        listed: whether it is a list.
        said: the value and its place, for messages.
    """

    texts: tuple[Text, ...]
    listed: bool
    said: str

    @property
    def references(self) -> Iterator[str]:
        """The paths it refers to."""
        return (piece.path for text in self.texts for piece in text if isinstance(piece, Reference))


def escaped(value: Any) -> Any:
    """A value as a file has to say it, so that no `${` in it is taken for a reference: `$${`."""
    if isinstance(value, Mapping):
        return {key: escaped(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(item) for item in value]
    return _START.sub(r"$\g<0>", value) if isinstance(value, str) else value


def with_values(draft: Draft, layers: Sequence[Layer], tree_of: Callable[[Sequence[Layer]], Tree]) -> list[Layer]:
    """The layers with a value in the place of each reference.

    Args:
        draft: takes the mistakes.
        layers: from the lowest up.
        tree_of: layers -> the whole config that they make, nested, whatever is wrong with it.
    """
    read = [_read(draft, layer) if layer.kind in ("file", "preset") else layer for layer in layers]
    templates = [value for layer in read for value in layer.values.values() if isinstance(value, Template)]
    if not templates:
        return read
    values: dict[Template, Any] = dict.fromkeys(templates, BROKEN)
    tree = tree_of(_put_in(read, values))
    sound = [template for template in templates if not _missing(draft, template, tree)]
    for _ in range(_ROUNDS):
        found = _solved(draft, sound, _effective(read), tree)
        if found == {template: values[template] for template in sound}:
            break
        values |= found
        tree = tree_of(_put_in(read, values))
    return _put_in(read, values)


def _read(draft: Draft, layer: Layer) -> Layer:
    """A layer whose values are what they say, or templates."""
    values: dict[str, Any] = {}
    for path, value in layer.values.items():
        listed = isinstance(value, list)
        if not _strings(value):
            values[path] = value
            continue
        try:
            texts = tuple(_pieces(text) for text in (value if listed else [value]))
        except ValueError:
            draft.mistake(
                f"{path}={shown(value)} (in {layer.source}): between ${{ and }} stands a path of the config, such as "
                "threat.eps, and nothing else. $${ is a ${ that stands for itself."
            )
            values[path] = BROKEN
            continue
        if not any(isinstance(piece, Reference) for text in texts for piece in text):
            plain = ["".join(map(str, text)) for text in texts]
            values[path] = plain if listed else plain[0]
        elif path.partition(".")[0] in NAMED and path.count(".") == 1 and path.endswith(".name"):
            draft.mistake(f"{typed(path)}={shown(value)} (in {layer.source}): a name is written out, without ${{…}}.")
        else:
            values[path] = Template(texts, listed, f"{path}={shown(value)} (in {layer.source})")
    return replace(layer, values=values)


def _strings(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _pieces(text: str) -> Text:
    """Literal parts and references of a text.

    Raises:
        ValueError: what stands between `${` and `}` is no path.
    """
    found: list[str | Reference] = []
    end = 0
    for start in _START.finditer(text):
        found.append(text[end : start.start()])
        end = start.end()
        if len(start[1]) > 1:
            found.append(start[0][1:])
            continue
        path = _PATH.match(text, end)
        if path is None:
            raise ValueError(text)
        found.append(Reference(path[1]))
        end = path.end()
    return (*found, text[end:])


def _put_in(layers: Sequence[Layer], values: Mapping[Template, Any]) -> list[Layer]:
    def value(given: Any) -> Any:
        return values[given] if isinstance(given, Template) else given

    return [replace(layer, values={path: value(given) for path, given in layer.values.items()}) for layer in layers]


def _effective(layers: Sequence[Layer]) -> dict[str, Template]:
    """The templates that no higher layer replaces, by path."""
    top = {path: value for layer in layers for path, value in layer.values.items()}
    return {path: value for path, value in top.items() if isinstance(value, Template)}


def _missing(draft: Draft, template: Template, tree: Tree) -> bool:
    """Whether it refers to what is not there, or to a whole group; that is a mistake."""
    known = dict(_leaves(tree))
    missing = [path for path in template.references if _address(path) not in known]
    for path in missing:
        inside = next((leaf for leaf in known if leaf.startswith(f"{path}.")), None)
        if inside is not None:
            draft.mistake(f"{template.said}: {shown(path)} is a group. Name one of its values, such as {inside}.")
        else:
            draft.mistake(f"{template.said}: this config has no {shown(path)}.{nearest_path(path, known)}")
    return bool(missing)


def _leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif "." not in key:
            yield f"{prefix}{key}", value


def _address(path: str) -> str:
    return f"{path}.name" if path in NAMED else path


def _solved(
    draft: Draft, templates: Sequence[Template], effective: Mapping[str, Template], tree: Tree
) -> dict[Template, Any]:
    """The value of each template. OmegaConf follows the references; it sees paths, and numbers for all that users say.

    So no text of a user's is ever read by OmegaConf's grammar, with its resolvers and its escapes.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    words: list[Any] = []

    def numbered(value: Any) -> str:
        words.append(value)
        return f"<{len(words) - 1}>"

    def pattern(text: Text) -> str:
        return "".join(f"${{{_address(p.path)}}}" if isinstance(p, Reference) else numbered(p) for p in text if p)

    def nested(node: Tree, prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.items():
            template = effective.get(f"{prefix}{key}")
            if isinstance(value, Mapping):
                found[key] = nested(value, f"{prefix}{key}.")
            elif template is not None and template in templates:
                found[key] = numbered(",").join(map(pattern, template.texts))
            else:
                found[key] = numbered(value)
        return found

    asked = {str(place): list(map(pattern, template.texts)) for place, template in enumerate(templates)}
    config = OmegaConf.create({**nested(tree), "_": asked})
    solved: dict[Template, Any] = {}
    for place, template in enumerate(templates):
        try:
            texts = [_worded(text, words) for text in config["_"][str(place)]]
        except (OmegaConfBaseException, RecursionError):
            draft.mistake(f"{template.said}: leads back to itself.")
            solved[template] = BROKEN
        else:
            solved[template] = texts if template.listed else texts[0]
    return solved


def _worded(pattern: str, words: Sequence[Any]) -> str:
    """What the numbers stand for, as the command line has it: it is read by the type of where it stands."""
    return "".join(_as_text(words[int(number)]) for number in re.findall(r"<(\d+)>", pattern))


def _as_text(value: Any) -> str:
    """A value as the command line has it."""
    if isinstance(value, list | tuple):
        return ",".join(map(_as_text, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return value if isinstance(value, str) else repr(value)
