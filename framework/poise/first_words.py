"""What a run is of, in a line: said before PyTorch is imported, which takes seconds, and at the head of its report."""

from poise.config import Config, Entry
from poise.config.evaluating import Evaluation
from poise.config.planning import Plan
from poise.tracking.facts import data_name
from poise.written import as_text


def of_training(config: Config, finished: bool = False) -> str:
    """Such as `Training trades,pgd on digits, small_cnn, 20 epochs`; of a finished run that it is."""
    if finished:
        return f"{config.run_dir} is finished: looking for what is left to tell"
    stack = ",".join(config.recipe) or "plain"
    epochs = config.trainer.max_epochs
    return f"Training {stack} on {data_name(config)}, {config.model.name}, {epochs} epoch{'s' * (epochs > 1)}"


def of_report(config: Config, trained: bool) -> str:
    """Such as `recipe trades · model small_cnn · data digits, label_noise (rate=0.2)`; no recipe of a stranger."""
    data = ", ".join([config.data.name, *(_with_parameters(*item) for item in config.data.wrappers.items())])
    recipe = [f"recipe {', '.join(config.recipe) or 'plain'}"] if trained else []
    return " · ".join([*recipe, f"model {config.model.name}", f"data {data}"])


def _with_parameters(alias: str, entry: Entry) -> str:
    given = ", ".join(f"{name}={as_text(value)}" for name, value in entry.params.items() if value is not None)
    return f"{alias} ({given})" if given else alias


def of_evaluation(asked: Evaluation) -> str:
    """Such as `Evaluating runs/mine on digits: clean, adversarial`."""
    what = asked.directory or asked.config.model.name
    return f"Evaluating {what} on {data_name(asked.config)}: {', '.join(asked.config.evaluation) or 'nothing'}"


def of_plan(plan: Plan) -> str:
    """Such as `Planning trades,pgd on cifar10, resnet18: a step is rehearsed on tensors without values, …`."""
    config = plan.config
    stack = ",".join(config.recipe) or "plain"
    unread = f"; {config.model.checkpoint} is not read" if config.model.checkpoint else ""
    what = f"{stack} on {_planned_data(plan)}, {config.model.name}"
    return f"Planning {what}: a step is rehearsed on tensors without values, in seconds or a minute{unread}"


def _planned_data(plan: Plan) -> str:
    """The name of data that are looked at, or what is said of those that are not; with what is done to them."""
    asked = plan.machines
    if asked.shape is None:
        return data_name(plan.config)
    told = f"{asked.examples:,} examples of {'×'.join(map(str, asked.shape))} in {asked.classes:,} classes"
    return ",".join([told, *plan.config.data.wrappers])
