import pytest

from poise.config import SlurmConfig
from poise.config.job_options import mistakes_in_extra, mistakes_in_time


@pytest.mark.parametrize("time", ["1", "090", "0:30", "90:00", "100:00:00", "1-0", "0-23", "1-12:30", "7-00:00:59"])
def test_limits_of_time(time: str) -> None:
    assert not list(mistakes_in_time(SlurmConfig(time=time)))


@pytest.mark.parametrize(
    "time", ["", "0", "00:00", "0-0", "1h", "99:99:99", "1:60", "1:60:00", "1-24", "1-99:99", "٣٠", "-5", "1:2", "1\n"]
)
def test_what_is_no_limit_of_time(time: str) -> None:
    (line,) = mistakes_in_time(SlurmConfig(time=time))
    assert "is no time limit: write minutes, 30:00, 8:00:00 or 1-12:00:00." in line


@pytest.mark.parametrize(
    "extra",
    [
        "--mem=64G",
        "--mem 64G -w node7 --comment 'two words'",
        "--time-min=10 --nodelist=node7 --gres=gpu:4 --cpus-per-gpu=4",
        "--comment='# -N --array' --exclusive -H",
        "--export=NONE --wait-all-nodes=1 --verbose --requeue",
    ],
)
def test_options_of_sbatch(extra: str) -> None:
    assert not list(mistakes_in_extra(SlurmConfig(extra=extra)))


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        ("--array=0-9", "--array is what poise submit --sweep and slurm.parallel say. Set those."),
        ("-a 0-9", "-a is what poise submit --sweep"),
        ("--gpus=8", "--gpus is what slurm.gpus says. Set that."),
        ("--gpus-per-task 1", "--gpus-per-task is what slurm.gpus says."),
        ("-G8", "-G is what slurm.gpus says."),
        ("--open-mode=truncate", "--open-mode is append, so that a job that is requeued goes on in its log."),
        ("--no-requeue", "--no-requeue is against what a run does that is stopped: it goes back into the queue."),
        ("--test-only", "--test-only is what makes sbatch submit nothing. Leave it out."),
        ("--mem=1G --help", "--help is what makes sbatch submit nothing."),
        ("--vers", "--version is what makes sbatch submit nothing."),
        ("--usage", "--usage is what makes sbatch submit nothing."),
        ("--wait", "--wait is what makes sbatch wait until the job is over. Leave it out."),
        ("-W", "-W is what makes sbatch wait"),
        ("--account=me", "--account is what slurm.account says. Set that."),
        ("-p gpu", "-p is what slurm.partition says. Set that."),
        ("--qos=high", "--qos is what slurm.qos says. Set that."),
        ("-C a100", "-C is what slurm.constraint says. Set that."),
        ("--node=4", "--nodes is what slurm.nodes says."),
        ("--mem=1G --ntask 4", "--ntasks is what slurm.gpus, or trainer.devices where there are none, says."),
        ("--tim=5", "--time is what slurm.time says."),
        ("garbage", "'garbage' is no option of sbatch, such as --mem=64G."),
        ("--mem=1G garbage", "'garbage' is no option"),
        ("--mem 1G garbage", "'garbage' is no option"),
        ("-- foo", "'--' is no option"),
        ("--hold # -N4", "'#' is no option"),
        ("''", "'' is no option"),
    ],
)
def test_what_a_job_cannot_have_besides(extra: str, line: str) -> None:
    first, *_ = mistakes_in_extra(SlurmConfig(extra=extra))
    assert first.startswith(f"slurm.extra={extra}: {line}")


@pytest.mark.parametrize("extra", ["--gres=gpu:4", "--gres gpu", "--gres=nvme:1,gpu:a100:2", "--gres=gres/gpu:1"])
def test_gpus_are_asked_for_once(extra: str) -> None:
    (line,) = mistakes_in_extra(SlurmConfig(gpus=4, extra=extra))
    assert line == f"slurm.extra={extra}: --gres=gpu asks for GPUs, and so does slurm.gpus=4: leave one out."
    assert not list(mistakes_in_extra(SlurmConfig(extra=extra)))
    assert not list(mistakes_in_extra(SlurmConfig(gpus=4, extra="--gres=nvme:1 --gres-flags=enforce-binding")))
