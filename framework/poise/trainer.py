"""Lightning's trainer as a run needs it: what it is told, and what it must leave alone."""

from datetime import timedelta

import lightning as L
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from poise import saving
from poise.build import Built
from poise.console import Telling
from poise.distributed import strategy
from poise.history import History
from poise.launching import under_launcher
from poise.run_directory import RunDirectory
from poise.state_file import StateFile
from poise.stopping import Requests
from poise.tracking.curves import Curves
from poise.tracking.tracker import NoTracker
from poise.world import world_of


def trainer_of(built: Built, directory: RunDirectory, tracker: NoTracker, requests: Requests) -> L.Trainer:
    """What trains a run.

    Args:
        built: the run's parts.
        directory: where it keeps curves and checkpoints.
        tracker: that takes its curves as well.
        requests: that it stop.
    """
    settings, tracking, world = built.config.trainer, built.config.tracking, world_of(built.config)
    unused = any(member.unused_parameters for _, member in built.stack.items())
    trainer = L.Trainer(
        max_epochs=settings.max_epochs,
        max_steps=settings.max_steps or -1,
        accelerator=built.accelerator,
        devices=world.on_node,
        num_nodes=world.nodes,
        strategy=strategy(
            built.config.strategy,
            world_size=world.size,
            accelerator=built.accelerator,
            precision=settings.precision,
            find_unused_parameters=unused,
            deepspeed=built.config.deepspeed,
            timeout=timedelta(seconds=settings.timeout),
            rows=settings.batch_size // (world.size * settings.accumulate),
        ),
        plugins=[_environment(), StateFile()],
        precision=settings.precision,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip,
        sync_batchnorm=settings.sync_batchnorm,
        callbacks=[
            Telling(bar=settings.progress),
            Curves([History(directory.curves).append, *tracker.writes()], tracking.every),
            saving.Saver(directory.checkpoints, built.selection, settings.checkpoint_every, requests),
        ],
        logger=False,
        log_every_n_steps=tracking.every,  # on all ranks: it reduces
        enable_progress_bar=False,  # a bar for each epoch does not say when a run ends
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=False,
    )
    _leave_signals(trainer)
    # with max_steps Lightning takes a run for one without epochs: taken up at an epoch's end, it would end that twice
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
    return trainer


def _leave_signals(trainer: L.Trainer) -> None:
    """Lightning would answer SIGTERM by a collective inside the handler, and asks all ranks for it at every step."""
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def _environment() -> ClusterEnvironment:
    """Lightning would take a machine of a Slurm job for its own, and requeue it from a signal's handler."""
    return TorchElasticEnvironment() if under_launcher() else LightningEnvironment()
