import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from config_strategies import TEXTS
from poise.cli import main
from poise.config import compose, from_yaml
from poise.submitting import submit

SUBMIT = ("submit", "recipe=trades", "slurm.nodes=2", "slurm.gpus=4")


def test_a_run_is_submitted(sbatch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SUBMIT, "run_dir=runs/my run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Job:    4711, 8 ranks on 2 nodes",
        "Run:    runs/my run",
        "See:    squeue --jobs=4711",
        "Logs:   runs/my run/logs/rank-0.log, and runs/my run/slurm-4711.log of the job itself",
        "Cancel: scancel 4711",
    ]
    run = Path("runs/my run")
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml", "job.sh", "job.txt", "logs"]
    assert (run / "job.sh").read_text() == sbatch.read_text()
    assert f"run='{run.absolute()}'\n" in sbatch.read_text()
    assert from_yaml((run / "config.yaml").read_text()).trainer.devices == 8


def test_the_directory_is_chosen_when_the_job_is_submitted(sbatch: Path) -> None:
    assert main([*SUBMIT]) == 0
    (run,) = Path("runs").iterdir()
    assert from_yaml((run / "config.yaml").read_text()).run_dir == str(run)


def test_a_dry_run_prints_the_job_and_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SUBMIT, "run_dir=mine", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert not list(here.iterdir())
    script = here.parent / "bin" / "sbatch"
    script.write_text(f'#!/bin/bash\ncat "$2" >{here.parent}/taken; echo 1\n')
    script.chmod(0o755)
    assert main([*SUBMIT, "run_dir=mine"]) == 0
    assert (here.parent / "taken").read_text() == printed


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(experiment=TEXTS, label=TEXTS)
def test_every_value_reaches_the_ranks_as_it_was_given(sbatch: Path, experiment: str, label: str) -> None:
    values = {"tracking": {"experiment": experiment}, "selection": label, "run_dir": "mine", "slurm": {"nodes": 2}}
    config = compose(values)
    submit(config)
    assert from_yaml(Path("mine/config.yaml").read_text(encoding="utf-8")) == replace(config, resume="auto")


@pytest.mark.parametrize("value", ["a b", "it's", 'a "b"', "$(touch harm)", "`touch harm`", "a;b", "a\nb", "ü*?", "-x"])
def test_awkward_values_on_the_command_line(sbatch: Path, value: str) -> None:
    assert main([*SUBMIT, f"tracking.experiment={value}", "run_dir=mine"]) == 0
    assert from_yaml(Path("mine/config.yaml").read_text()).tracking.experiment == value
    assert subprocess.run(["bash", "-n", "mine/job.sh"]).returncode == 0
    assert not Path("harm").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["slurm.nods=2"], "slurm.nods: slurm has no parameter 'nods'. Did you mean 'nodes'?"),
        (["slurm.time=1h"], "slurm.time=1h is no time limit: write minutes, 30:00, 8:00:00 or 1-12:00:00."),
        (
            ["slurm.nodes=4", "trainer.devices=2"],
            "trainer.devices=2 are not equally many ranks on each of slurm.nodes=4",
        ),
        (["slurm.gpus=2", "trainer.devices=4"], "trainer.devices=4 and slurm.nodes × slurm.gpus = 2 differ"),
        (["slurm.account=a\nb"], "slurm.account='a\\nb' has to be one line that is not empty; leave it out for none."),
        (["slurm.extra=--nodes=3"], "slurm.extra=--nodes=3: --nodes is what slurm.nodes says. Set that."),
        (["slurm.extra=-N3"], "slurm.extra=-N3: -N is what slurm.nodes says. Set that."),
        (["slurm.extra=--comment 'a"], "slurm.extra=--comment 'a is not as in a shell: No closing quotation."),
        (["slurm.setup=if true"], "slurm.setup is not whole commands of bash: line "),
        (["slurm.setup=cat <<EOF"], "slurm.setup is not whole commands of bash: line "),
        (["slurm.setup=true &&"], "slurm.setup is not whole commands of bash: line "),
        (["slurm.prefix=# "], "slurm.prefix=#  is not the first words of a command: line "),
        (["slurm.prefix=tee |"], "slurm.prefix=tee | is not the first words of a command: line "),
        (["slurm.prefix=tee \\"], "slurm.prefix=tee \\ is not the first words of a command: line "),
        (["slurm.prefix=tee) (tee"], "slurm.prefix=tee) (tee is not the first words of a command: line "),
        (["slurm.prefix=tee); (tee"], "slurm.setup and slurm.prefix do not make a script that bash can read: line "),
        (["run_dir=a\\b"], "has a name that cannot stand in a job: name another without \\ in it."),
        (["run_dir=a\nb"], "has a name that cannot stand in a job: name another without control characters in it."),
        (["recipe=trads"], "Did you mean 'trades'?"),
        (["--dryrun"], "--dry-run, --sweep, --resubmit-failed, --help, --debug. Did you mean '--dry-run'?"),
        (
            [],
            "there is no sbatch here: submit where Slurm is installed, or start the ranks yourself (launch/torchrun.sh",
        ),
    ],
)
@pytest.mark.usefixtures("here")
def test_mistakes_have_their_line_and_nothing_is_left(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *words]) == 2
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert line in printed.err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "echo 'sbatch: error: invalid partition' >&2; echo failed >&2; exit 1",
            "sbatch did not take the job: sbatch: error: invalid partition failed",
        ),
        ("exit 3", "sbatch did not take the job: exit code 3"),
        ("kill -9 $$", "sbatch did not take the job: signal 9"),
        ("exit 0", "sbatch gave no number of a job, and said nothing"),
        ("echo slurm 24.05; echo a filter >&2", "sbatch gave no number of a job, and said slurm 24.05 a filter"),
    ],
)
def test_what_sbatch_refuses_is_said_in_its_words(
    text: str, line: str, sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = sbatch.parent / "bin" / "sbatch"
    script.write_text(f"#!/bin/bash\n{text}\n")
    assert main([*SUBMIT, "run_dir=mine"]) == 2
    assert capsys.readouterr().err == f"{line}\n"
    assert not Path("mine").exists()


@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_a_finished_run_is_not_submitted_again(
    option: list[str], sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*SUBMIT, "run_dir=mine"])
    Path("mine/report.json").write_text("{}")
    sbatch.unlink()
    capsys.readouterr()
    assert main([*SUBMIT, "run_dir=mine", *option]) == 2
    printed = capsys.readouterr().err
    assert (
        printed
        == f"run_dir={os.getcwd()}/mine holds a finished run: look at its report.html, or name another run_dir.\n"
    )
    assert not sbatch.exists()


def test_an_unfinished_run_goes_on(sbatch: Path) -> None:
    assert main([*SUBMIT, "run_dir=mine"]) == 0
    sbatch.unlink()
    assert main([*SUBMIT, "run_dir=mine", "slurm.time=30"]) == 0
    assert "--time=30\n" in sbatch.read_text()
    assert main([*SUBMIT, "run_dir=mine", "seed=1"]) == 2


def test_a_run_whose_job_is_queued_is_not_submitted_again(sbatch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SUBMIT, "run_dir=mine"]) == 0
    sbatch.unlink()
    squeue = sbatch.parent / "bin" / "squeue"
    squeue.write_text('#!/bin/bash\n[ "$3 $4" = "--jobs=4711 --clusters=cluster" ] && echo 4711 PENDING\n')
    squeue.chmod(0o755)
    capsys.readouterr()
    assert main([*SUBMIT, "run_dir=mine"]) == 2
    assert capsys.readouterr().err == (
        f"job 4711 of run_dir={os.getcwd()}/mine is still queued or running: wait for it, or scancel "
        "--clusters=cluster 4711 first.\n"
    )
    assert not sbatch.exists()
    squeue.write_text("#!/bin/bash\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n")
    assert main([*SUBMIT, "run_dir=mine"]) == 0
