"""What the command says before it imports PyTorch, which takes seconds: what it is about to do."""

from poise.config import Config
from poise.config.evaluating import Evaluation
from poise.config.planning import Plan
from poise.tracking.facts import data_name


def of_training(config: Config, finished: bool = False) -> str:
    """Such as `Training trades,pgd on digits, small_cnn, 20 epochs`; of a finished run that it is."""
    if finished:
        return f"{config.run_dir} is finished: looking for what is left to tell"
    stack = ",".join(config.recipe) or "plain"
    epochs = config.trainer.max_epochs
    return f"Training {stack} on {data_name(config)}, {config.model.name}, {epochs} epoch{'s' * (epochs > 1)}"


def of_evaluation(asked: Evaluation) -> str:
    """Such as `Evaluating runs/mine on digits: clean, adversarial`."""
    what = asked.directory or asked.config.model.name
    return f"Evaluating {what} on {data_name(asked.config)}: {', '.join(asked.config.evaluation) or 'nothing'}"


def of_plan(plan: Plan) -> str:
    """Such as `Planning trades,pgd on cifar10, resnet18: one step is rehearsed, which takes up to a minute`."""
    config = plan.config
    stack = ",".join(config.recipe) or "plain"
    what = f"{stack} on {data_name(config)}, {config.model.name}"
    return f"Planning {what}: a step is rehearsed on tensors without values, in seconds or a minute"
