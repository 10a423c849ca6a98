from collections.abc import Callable
from typing import Any

import pytest

from poise.config import compose
from poise.errors import UserError
from poise.world import World, check_world, world_of

Launched = Callable[[int, int, int], None]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Launched:
    """Makes this process a rank of others'."""

    def become(rank: int, size: int, on_node: int) -> None:
        own = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": on_node, "TORCHELASTIC_RUN_ID": "mine"}
        for name, value in own.items():
            monkeypatch.setenv(name, str(value))

    return become


def config(devices: int | None = None, **slurm: int) -> Any:
    return compose({"trainer": {} if devices is None else {"devices": devices}, "slurm": slurm})


@pytest.mark.parametrize(
    ("asked", "world"),
    [
        (config(), World(0, 1, 1)),
        (config(4), World(0, 4, 4)),
        (config(nodes=2, gpus=4), World(0, 8, 4)),
        (config(8, nodes=2), World(0, 8, 4)),
    ],
)
def test_before_anybody_starts_ranks_the_config_counts_them(asked: Any, world: World) -> None:
    assert world_of(asked) == world
    assert world.first


@pytest.mark.parametrize(
    ("asked", "ranks", "nodes"),
    [(config(4), (5, 8, 4), 2), (config(nodes=2, gpus=4), (5, 8, 4), 2), (config(2), (0, 2, 2), 1)],
)
def test_afterwards_the_launcher_does(asked: Any, ranks: tuple[int, int, int], nodes: int, launched: Launched) -> None:
    launched(*ranks)
    check_world(asked)
    assert world_of(asked) == World(*ranks)
    assert (world_of(asked).nodes, world_of(asked).first) == (nodes, ranks[0] == 0)


@pytest.mark.parametrize(
    ("asked", "ranks", "line"),
    [
        (config(4), (0, 1, 1), r"started 1 rank on each node, and the config asks for 4: set trainer\.devices=1, or"),
        (
            config(nodes=2, gpus=4),
            (0, 4, 4),
            r"ranks on 1 node, and the config says slurm\.nodes=2: set slurm\.nodes=1",
        ),
        (config(2), (0, 24, 2), r"batch_size=128 over 24 ranks is about 5\.3 a rank.*Fits: 1, 2, 4, 8 ranks"),
    ],
)
def test_ranks_that_the_config_does_not_mean(
    asked: Any, ranks: tuple[int, int, int], line: str, launched: Launched
) -> None:
    launched(*ranks)
    with pytest.raises(UserError, match=line):
        check_world(asked)
