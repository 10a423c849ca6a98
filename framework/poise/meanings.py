"""What the words of a report mean: in the first lines of the docstrings of what they name."""

import inspect


def meaning(named: object) -> str:
    """The first line of the docstring of a class, of one of its objects, of a function, a property or a module.

    Without the marks of code, and without what tells who calls it and nobody else; "" where there is no docstring.
    """
    first = inspect.cleandoc(named.__doc__ or "").partition("\n")[0]
    return first.removesuffix(".").replace("`", "").replace(", float64", "")
