"""The ranks of a run, as whoever started them says: how many, on how many nodes, and which of them this process is."""

import os
from dataclasses import dataclass

from poise.config import Config
from poise.data.blocks import check_sizes
from poise.errors import UserError
from poise.launching import under_launcher


@dataclass(frozen=True)
class World:
    """Where a process stands among those that train together.

    Args:
        rank: of this process, from 0.
        size: ranks on all nodes.
        on_node: ranks on each node.
    """

    rank: int
    size: int
    on_node: int

    @property
    def nodes(self) -> int:
        """Machines that train together."""
        return self.size // self.on_node

    @property
    def first(self) -> bool:
        """Whether this process is rank 0."""
        return self.rank == 0


def world_of(config: Config) -> World:
    """The ranks that train a config: those that a launcher started, else those that are to be started."""
    if not under_launcher():
        return World(0, config.trainer.devices, config.ranks_on_a_node)
    size = int(os.environ["WORLD_SIZE"])
    return World(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_WORLD_SIZE", size)))


def check_world(config: Config) -> None:
    """Ranks that a launcher started have to be those that the config asks for, and to divide its batch.

    Raises:
        UserError: they are not, or do not.
    """
    world, wanted, nodes = world_of(config), config.ranks_on_a_node, config.slurm.nodes
    if world.on_node != wanted:
        raise UserError(
            f"the launcher started {world.on_node} rank{'s' * (world.on_node > 1)} on each node, and the config asks "
            f"for {wanted}: set trainer.devices={world.on_node}, or have it start {wanted}"
        )
    if nodes is not None and world.nodes != nodes:
        raise UserError(
            f"the launcher started ranks on {world.nodes} node{'s' * (world.nodes > 1)}, and the config says "
            f"slurm.nodes={nodes}: set slurm.nodes={world.nodes}, or have it start them on {nodes}"
        )
    check_sizes(config.trainer.batch_size, world.size, config.trainer.accumulate, config.trainer.block_size)
