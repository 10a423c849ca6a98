"""Names after a slash, read from a package's text, against the package itself."""

import pytest
import timm

from poise.registry.spaces import names_in, surely_lacks


def test_they_are_those_that_the_package_lists() -> None:
    assert list(names_in("timm")) == sorted(timm.list_models())


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("resnet18", False),
        ("resnet18.a1_in1k", False),
        ("vit_base_patch16_224_in21k", False),  # an older name, which timm still takes
        ("resnet81", True),
        ("resnet", False),  # no architecture, but a word of its text: timm itself will say so
        ("", True),
        ("a.b.c", True),
        ("../resnet18", True),
        ("hf-hub:timm/resnet18", True),
    ],
)
def test_what_is_surely_not_there(name: str, lacks: bool) -> None:
    assert surely_lacks("timm", name) == lacks


def test_of_a_package_that_is_not_installed_nothing_is_sure() -> None:
    assert names_in("no_package_of_that_name") == ()
    assert not surely_lacks("no_package_of_that_name", "a")
