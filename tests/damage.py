"""Damage to files, drawn from a seed: what disks, cut transfers and people do to them."""

import json
from random import Random
from typing import Any

ODD: list[Any] = [None, True, -1, 0, 10**9, 10**400, 1e308, "", "os:system", [], {}, [[[]]], {"name": "x"}, ["a", "a"]]


def damaged(whole: bytes, random: Random) -> bytes:
    """Bytes with bits flipped, cut short, with a part of their own spliced in or out, or with zeros in them."""
    content = bytearray(whole)
    start, size = random.randrange(len(content)), random.randrange(1, 40)
    match random.randrange(5):
        case 0:
            for _ in range(random.choice((1, 1, 3, 20))):
                content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        case 1:
            del content[start:]
        case 2:
            other = random.randrange(len(content))
            content[start:start] = content[other : other + size]
        case 3:
            del content[start : start + size]
        case 4:
            content[start : start + size] = bytes(min(size, len(content) - start))
    return bytes(content)


def edited(text: bytes, random: Random) -> bytes:
    """JSON in which one value, at any depth, is another: odd, gone, or of another place."""
    tree = json.loads(text)
    place, key = random.choice(list(_places(tree)))
    match random.randrange(3):
        case 0:
            place[key] = random.choice(ODD)
        case 1:
            del place[key]
        case 2:
            other, name = random.choice(list(_places(json.loads(text))))
            place[key] = other[name]
    return json.dumps(tree).encode()


def _places(tree: Any) -> Any:
    """Every container in a tree with each of its keys."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
