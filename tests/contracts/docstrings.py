"""What the docstring of a recipe has to say."""

import re
from collections.abc import Iterator

from poise.registry import Record

IDENTIFIER = r"arXiv \d{4}\.\d{4,5}|OpenReview [\w-]+|doi 10\.\S+|PMLR \d+:\d+"


def missing(record: Record) -> list[str]:
    """What is not there, each with what to write."""
    return list(_missing(record))


def _missing(record: Record) -> Iterator[str]:
    year, identifier = re.search(r"\b(19|20)\d\d\b", record.paper), re.search(IDENTIFIER, record.paper)
    if not (year and identifier):
        yield "paper = 'authors, title, year, identifier' (arXiv 1234.56789, OpenReview abc, PMLR 80:123 or doi 10.…)"
        return
    author = record.paper.split()[0].rstrip(",")
    for what in (author, year[0], identifier[0]):
        if what not in " ".join(record.doc.split()):
            yield f"'Source: {author} et al., …, {year[0]}, {identifier[0]}' ({what} is not in it)"
            break
    if "[B" not in record.doc:
        yield "the shapes of what goes in and out, such as [B, C]"
    if "Departure" not in record.doc:
        yield "'Departures from the authors' code: …' (none, if there are none)"
    for parameter in record.parameters:
        if f"{parameter.name}:" not in record.doc:
            yield f"'{parameter.name}: …' under Args"
