"""One thing of `poise list`, in full."""

import inspect
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields

from poise.config import presets
from poise.config.schema import ENTRIES
from poise.config.values import bounds_in_words, expected
from poise.errors import one
from poise.registry import KINDS, Parameter, Record, records
from poise.registry.bounds import holds, unbound
from poise.written import as_text, assignment

WIDEST = 100
CAPABILITIES = ("provides", "needs", "after", "conflicts")
GROUP_OF = {"calibrator": "calibration", "evaluator": "evaluation", "wrapper": "data", "augmentation": "augment"}
IN_LISTS = ("recipe", "calibrator", "evaluator", "wrapper", "augmentation")
DATA_WITH = {"groups": "colored_digits"}
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Note|Notes|Example|Examples):$")


def in_full(record: Record) -> str:
    """What a thing does, where it is from, how it meets others, its parameters, and a line to type."""
    about, described = _docstring(record.doc)
    parts = [f"{record.name}: {one(record.kind)} ({record.qualified})", *filter(None, map(_wrapped, about))]
    parts += filter(None, ["\n".join(_facts(record)), "\n".join(_parameters(record, described))])
    parts += filter(None, ["\n".join(_settings(record))])
    return "\n\n".join([*parts, f"Example\n  {example(record)}"])


def preset_in_full(name: str) -> str:
    """A preset's file, with the sources of its values, and a line to type."""
    return "\n\n".join(
        [
            f"{name}: a preset",
            presets.text(name).strip(),
            f"Example\n  poise train recipe={name} trainer.max_epochs=1",
        ]
    )


def example(record: Record) -> str:
    """A line that uses the thing, where there is a default for all that it needs."""
    record = record.within("…") if record.space else record
    if record.kind in ("recipe", "calibrator"):
        return " ".join(["poise train", *_in_a_stack(record)])
    if record.kind == "wrapper":
        named = f"data=digits,{record.name}"
    else:
        named = f"{GROUP_OF.get(record.kind, record.kind)}={record.name}"
    return " ".join(["poise train", named, *_one_changed(record)])


def _in_a_stack(record: Record) -> Iterator[str]:
    yield f"{GROUP_OF.get(record.kind, record.kind)}={_named(record)}"
    yield from (f"data={DATA_WITH[need]}" for need in sorted(record.needs) if need in DATA_WITH)
    yield from _one_changed(record)


def _named(record: Record) -> str:
    """What to write for it: of what does nothing alone, such as an attack, the simplest recipe that brings it."""
    bringers = [other for other in records("recipe").values() if record.name in other.brings]
    if "objective" in record.hooks or not bringers:
        return record.name
    return min(bringers, key=lambda other: (len(other.brings), len(other.parameters))).name


def _one_changed(record: Record) -> Iterator[str]:
    """The parameters that have to be given, else the first one, as they are by default."""
    required = [p for p in record.parameters if p.required]
    for parameter in required or record.parameters[:1]:
        value = _stand_in(record, parameter) if parameter.required else as_text(parameter.default)
        yield f"{address(record)}{parameter.name}={value}"


def _stand_in(record: Record, parameter: Parameter) -> str:
    """A value for one that has no default; … where only the user can know it."""
    if kind := record.attributes.get("named", {}).get(parameter.name):
        return next(other.name for other in records(kind).values() if not any(p.required for p in other.parameters))
    if typing.get_origin(parameter.type) is typing.Literal:
        return as_text(typing.get_args(parameter.type)[0])
    plain, bounds = unbound(parameter.type)
    values = {int: (1, 10), float: (0.5, 10.0), bool: (True,)}.get(plain, ())
    return next((as_text(value) for value in values if holds(value, bounds)), "…")


def address(record: Record) -> str:
    """What stands before a parameter's name: `recipe.trades.`, `model.`."""
    group = GROUP_OF.get(record.kind, record.kind)
    return f"{group}.{record.address}." if record.kind in IN_LISTS else f"{group}."


def _docstring(doc: str) -> tuple[list[str], dict[str, str]]:
    """The paragraphs before its sections, and what its `Args:` say of each parameter."""
    about: list[str] = []
    described: dict[str, str] = {}
    for paragraph in doc.split("\n\n"):
        head, _, body = paragraph.partition("\n")
        if not _SECTION.match(head):
            about.append(paragraph)
        elif head == "Args:":
            described = _arguments(textwrap.dedent(body))
    return about, described


def _arguments(text: str) -> dict[str, str]:
    """`name: what it is`, with lines that go on indented, by name."""
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", text):
        names, _, about = entry.partition(":")
        found |= {name.strip(): " ".join(about.split()) for name in names.split(",")}
    return found


def _width() -> int:
    return min(shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDEST, WIDEST)


def _wrapped(paragraph: str) -> str:
    """A paragraph of prose as wide as the terminal; what is indented or a list stays as it is."""
    if re.search(r"^(\s|[-*] )", paragraph, re.MULTILINE):
        return paragraph
    return textwrap.fill(paragraph, _width(), break_long_words=False, break_on_hyphens=False)


def _facts(record: Record) -> Iterator[str]:
    facts: dict[str, str] = {"Paper": record.paper, "Hooks": ", ".join(record.hooks)}
    for name in CAPABILITIES:
        facts[name.capitalize()] = ", ".join(_with_providers(record, name))
    facts["Brings"] = _brought(record.brings)
    facts["Ranks meet"] = _meetings(record)
    facts["Given"] = f"{' and '.join(record.supplied)}, by poise" if record.supplied else ""
    yield from (_hanging(f"{title:<10} ", text) for title, text in facts.items() if text)


def _with_providers(record: Record, name: str) -> Iterator[str]:
    """Capabilities; with what is needed stands who has it."""
    for capability in sorted(record.attributes.get(name, ())):
        providers = [other.name for other in records("recipe").values() if capability in other.provides]
        yield f"{capability} (of {', '.join(providers)})" if name == "needs" and providers else capability


def _brought(brings: Mapping[str, Mapping[str, object]]) -> str:
    members = (" ".join([name, *(f"{k}={as_text(v)}" for k, v in params.items())]) for name, params in brings.items())
    text = ", ".join(members)
    return f"{text}, where no other member has its hooks" if text else ""


def _meetings(record: Record) -> str:
    """Reductions and gathers over ranks in a step, besides those of gradients; relative weights are scaled together."""
    own = record.attributes.get("collectives", 0)
    times = {1: "once", 2: "twice"}.get(own, f"{own} times")
    found = [f"{times} a step"] if own else []
    if "weigh" in record.hooks and record.attributes["relative"]:
        found.append("once a step to scale the weights of the stack")
    return ", and ".join(found)


def _parameters(record: Record, described: Mapping[str, str]) -> Iterator[str]:
    if record.parameters:
        yield "Parameters"
        yield from _in_turn(record, record.parameters, described)


def _settings(record: Record) -> Iterator[str]:
    """What a config says of every one of its kind, from the schema."""
    reserved = KINDS[record.kind].reserved
    if not reserved:
        return
    schema = ENTRIES[record.kind]
    hints, defaults = (
        typing.get_type_hints(schema, include_extras=True),
        {item.name: item.default for item in fields(schema)},
    )
    yield f"Of every {record.kind}"
    settings = [Parameter(name, hints[name], defaults[name]) for name in reserved]
    yield from _in_turn(record, settings, _docstring(inspect.cleandoc(schema.__doc__ or ""))[1])


def _in_turn(record: Record, parameters: Iterable[Parameter], described: Mapping[str, str]) -> Iterator[str]:
    for parameter in parameters:
        yield f"  {address(record)}{assignment(parameter)}"
        yield _hanging("      ", _meaning(parameter, described.get(parameter.name, "")))


def _meaning(parameter: Parameter, about: str) -> str:
    kind = re.sub(r" \(.*?\)", "", expected(parameter.type)) if parameter.type else "of no type that text can say"
    kind = ", ".join(filter(None, [kind, bounds_in_words(parameter.type)]))
    given = f"{kind}; has to be given" if parameter.required else kind
    return f"{given}: {about}" if about else given


def _hanging(first: str, text: str) -> str:
    return textwrap.fill(
        text,
        _width(),
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
