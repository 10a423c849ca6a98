import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from poise.cli import main
from poise.config import from_yaml, parse
from poise.sweep import read

COMMON = ("trainer.max_steps=2", "tracking=none")
SUBMIT = ("submit", "--sweep", "recipe=trades", "recipe=trades,awp", "seed=0", "seed=1", *COMMON)
RUNS = ["recipe=trades,seed=0", "recipe=trades,seed=1", "recipe=trades-awp,seed=0", "recipe=trades-awp,seed=1"]
AGAIN = ("submit", "--resubmit-failed", "run_dir=all")


def squeue(here: Path, *lines: str) -> None:
    """Have a fake squeue say so."""
    file = here.parent / "bin" / "squeue"
    file.write_text("\n".join(["#!/bin/bash", *(f"echo '{line}'" for line in lines), ""]))
    file.chmod(0o755)


def array(job: Path) -> list[str]:
    return [line for line in job.read_text().splitlines() if "--array" in line]


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line[:1].isdigit()]


def test_a_sweep_is_one_array_of_jobs(sbatch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SUBMIT, "run_dir=all", "slurm.gpus=2"]) == 0
    said = capsys.readouterr()
    again = next(line for line in said.out.splitlines() if line.startswith("Failed: "))
    assert again.endswith("submit --resubmit-failed run_dir=all")
    assert said.err == ""
    assert [line for line in said.out.splitlines() if line != again] == [
        "Job:    4711, an array of 4, each 2 ranks on 1 node",
        "Sweep:  all",
        "See:    squeue --jobs=4711",
        "Logs:   all/<run>/logs/rank-0.log, and all/slurm-4711_<n>.log of the jobs themselves",
        "Cancel: scancel 4711",
    ]
    assert array(sbatch) == ["#SBATCH --array=0-3"]
    assert sbatch.read_text() == Path("all/job.sh").read_text()
    assert sorted(path.name for path in Path("all").iterdir()) == sorted(["job.sh", "sweep.json", *RUNS])
    assert list(read(Path("all")).runs) == RUNS


def test_each_run_is_a_directory_as_if_it_were_submitted_alone(sbatch: Path) -> None:
    assert main([*SUBMIT, "run_dir=all"]) == 0
    for task, (recipe, seed) in enumerate((r, s) for r in ("trades", "trades,awp") for s in (0, 1)):
        run = Path("all") / RUNS[task]
        assert sorted(path.name for path in run.iterdir()) == ["config.yaml", "job.txt", "logs"]
        alone = parse([f"recipe={recipe}", f"seed={seed}", *COMMON])
        assert from_yaml((run / "config.yaml").read_text()) == replace(alone, run_dir=str(run))
        assert (run / "job.txt").read_text() == f"4711_{task};cluster\n"


def test_the_directory_is_chosen_when_the_sweep_is_submitted(sbatch: Path) -> None:
    assert main([*SUBMIT]) == 0
    (path,) = Path("runs").iterdir()
    assert path.name.endswith("-sweep")
    assert (path / "sweep.json").is_file()


def test_a_dry_run_prints_the_job_and_what_its_numbers_mean(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SUBMIT, "run_dir=all", "slurm.parallel=3", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "#SBATCH --array=0-3%3\n" in said.out
    assert table(said.err) == [[str(task), name] for task, name in enumerate(RUNS)]
    assert not list(here.iterdir())
    done = subprocess.run(["bash", "-n"], input=said.out, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["recipe=trads"], ["recipe=trads: there is no recipe, calibrator or preset called 'trads'."]),
        (["seed=0"], ["seed=0 is given twice: leave one out."]),
        (["run_dir=a", "run_dir=b"], ["run_dir is given several times: a sweep has one directory"]),
        (["run_dir=a\\b"], ["has a name that cannot stand in a job"]),
        (["slurm.setup=if true"], ["slurm.setup is not whole commands of bash"]),
        (["--resubmit-failed"], ["--sweep submits a sweep, and --resubmit-failed what failed of one: leave one"]),
        (["slurm.extra=--array=1-2"], ["--array is what poise submit --sweep and slurm.parallel say. Set those."]),
    ],
)
def test_mistakes_are_said_and_nothing_is_left(
    words: Sequence[str], lines: Sequence[str], sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SUBMIT, *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(lines)
    assert all(part in line for part, line in zip(lines, said, strict=True))
    assert not list(Path().iterdir())
    assert not sbatch.exists()


def test_one_job_has_no_limit_on_how_many_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "slurm.parallel=2"]) == 2
    assert "slurm.parallel=2 limits the jobs of a sweep, and this is one job" in capsys.readouterr().err


def test_a_sweep_that_sbatch_refuses_leaves_nothing(sbatch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sbatch.parent / "bin" / "sbatch").write_text("#!/bin/bash\necho 'invalid array' >&2; exit 1\n")
    assert main([*SUBMIT, "run_dir=all"]) == 2
    assert capsys.readouterr().err == "sbatch did not take the job: invalid array\n"
    assert not Path("all").exists()


def test_without_slurm_a_loop_of_the_shell_does_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SUBMIT, "recipe.trades.beta=1", "recipe.trades.beta=2", "slurm.time=3", "run_dir=all"]) == 2
    said = capsys.readouterr().err
    loop = said.partition("one after the other (")[2].partition("); --dry-run shows the job.")[0]
    poise = here.parent / "bin" / "poise"
    poise.write_text('#!/bin/bash\necho "$@"\n')
    poise.chmod(0o755)
    done = subprocess.run(["bash", "-c", loop], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"train {' '.join(COMMON)} recipe={recipe} seed={seed} recipe.trades.beta={beta}"
        for recipe in ("trades", "trades,awp")
        for seed in (0, 1)
        for beta in (1, 2)
    ]


def test_what_failed_is_submitted_again_and_nothing_else(
    here: Path, sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*SUBMIT, "run_dir=all"])
    Path("all", RUNS[0], "report.json").write_text("{}")
    squeue(here, "4711_2 PENDING")
    (here.parent / "bin" / "sbatch").write_text(f'#!/bin/bash\ncat "$2" >{sbatch}; echo 4800\n')
    capsys.readouterr()
    assert main([*AGAIN, "slurm.time=30"]) == 0
    said = capsys.readouterr().out
    states = ["finished", "failed", "pending", "failed"]
    assert table(said) == [[str(task), RUNS[task], state] for task, state in enumerate(states)]
    assert "Job:    4800, an array of 2, each 1 rank on 1 node" in said
    assert array(sbatch) == ["#SBATCH --array=1,3"]
    assert "--time=30\n" in sbatch.read_text()
    numbers = [Path("all", name, "job.txt").read_text().strip() for name in RUNS]
    assert numbers == ["4711_0;cluster", "4800_1", "4711_2;cluster", "4800_3"]
    times = [from_yaml(Path("all", name, "config.yaml").read_text()).slurm.time for name in RUNS]
    assert times == [None, "30", None, "30"]


def test_a_dry_run_shows_what_would_be_submitted_again(sbatch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*SUBMIT, "run_dir=all"])
    sbatch.unlink()
    before = {path: path.read_bytes() for path in Path("all").rglob("*") if path.is_file()}
    Path("all", RUNS[2], "report.json").write_text("{}")
    capsys.readouterr()
    assert main([*AGAIN, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "#SBATCH --array=0-1,3\n" in said.out
    assert [line[-1] for line in table(said.err)] == ["failed", "failed", "finished", "failed"]
    assert not sbatch.exists()
    assert before == {path: path.read_bytes() for path in before}


def test_nothing_is_submitted_where_nothing_failed(
    here: Path, sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*SUBMIT, "run_dir=all"])
    sbatch.unlink()
    squeue(here, "4711_0 RUNNING", "4711_1 RUNNING", "4711_2 PENDING", "4711_3 COMPLETING")
    assert main([*AGAIN]) == 0
    assert capsys.readouterr().out.endswith("No run has failed: nothing is submitted.\n")
    assert not sbatch.exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["seed=3"], f"run_dir={{}}/all/{RUNS[1]} holds a run with another config (seed was 1, now 3)"),
        (["slurm.nods=3"], "slurm.nods: slurm has no parameter 'nods'. Did you mean 'nodes'?"),
        (["slurm.nodes=2", "slurm.gpus=3", "trainer.devices=1"], "trainer.devices=1 and slurm.nodes × slurm.gpus = 6"),
        (["run_dir=other"], "poise submit --resubmit-failed takes run_dir=, the directory of one sweep."),
    ],
)
def test_a_sweep_goes_on_as_what_it_was(
    words: Sequence[str], line: str, sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*SUBMIT, "run_dir=all"])
    sbatch.unlink()
    for name in (RUNS[0], *RUNS[2:]):
        Path("all", name, "report.json").write_text("{}")
    assert main([*AGAIN, *words]) == 2
    assert line.format(os.getcwd()).removeprefix(f"run_dir={os.getcwd()}/") in capsys.readouterr().err
    assert not sbatch.exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("report.json", b"", "is damaged: this is empty; bring it back, or delete it"),
        ("config.yaml", b"a: [", "is damaged: this is no YAML; bring it back"),
        ("job.txt", b"\xff\xfe", "is damaged: this is no text; see that no job of this run is queued or running"),
        ("job.txt", b"", "is damaged: this is no number of a job; see that no job"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(
    name: str, content: bytes, said: str, sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*SUBMIT, "run_dir=all"])
    sbatch.unlink()
    Path("all", RUNS[1], name).write_bytes(content)
    assert main([*AGAIN]) == 2
    assert f"all/{RUNS[1]}/{name} {said}" in capsys.readouterr().err
    assert not sbatch.exists()


def test_a_sweep_goes_on_from_where_its_relative_paths_start(
    sbatch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*SUBMIT, "run_dir=all"])
    first = os.getcwd()
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "--resubmit-failed", f"run_dir={first}/all"]) == 2
    assert f"was submitted in {first}, from which relative paths in it start" in capsys.readouterr().err
    Path(first).rename(tmp_path / "moved")
    assert main(["submit", "--resubmit-failed", "run_dir=moved/all"]) == 0


@pytest.mark.parametrize(
    ("words", "ranks", "told"),
    [
        (["slurm.gpus=4"], 4, "4 ranks on 1 node"),
        (["slurm.nodes=2"], 2, "2 ranks on 2 nodes"),
        (["slurm.nodes=2", "slurm.gpus=2"], 4, "4 ranks on 2 nodes"),
    ],
)
def test_a_sweep_goes_on_with_another_number_of_ranks(
    words: Sequence[str], ranks: int, told: str, sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*SUBMIT, "run_dir=all"])
    assert main([*AGAIN, *words]) == 0
    assert f"an array of 4, each {told}" in capsys.readouterr().out
    assert from_yaml(Path("all", RUNS[0], "config.yaml").read_text()).trainer.devices == ranks


def test_the_sweep_to_submit_again_has_to_be_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["run_dir="]):
        assert main(["submit", "--resubmit-failed", *words]) == 2
        assert "--resubmit-failed takes run_dir=, the directory of one sweep" in capsys.readouterr().err


def test_a_sweep_is_submitted_again_where_slurm_is(sbatch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*SUBMIT, "run_dir=all"])
    (sbatch.parent / "bin" / "sbatch").unlink()
    assert main([*AGAIN]) == 2
    assert "there is no sbatch here" in capsys.readouterr().err


def test_a_sweeps_directory_is_no_runs(sbatch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*SUBMIT, "run_dir=all"])
    for words in ([*SUBMIT, "run_dir=all"], ["submit", "run_dir=all"], ["train", "run_dir=all"]):
        assert main(words) == 2
        assert "run_dir=all holds a sweep: poise submit --resubmit-failed run_dir=all" in capsys.readouterr().err


def test_a_server_that_is_away_does_not_keep_a_sweep_from_being_submitted(
    sbatch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in SUBMIT if word != "tracking=none"]
    assert main([*words, "run_dir=all", "tracking.uri=http://127.0.0.1:9"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Job:    4711")
    (line,) = said.err.splitlines()
    assert line.startswith("Tracking at http://127.0.0.1:9 fails (")
    assert line.endswith("the first run to reach it makes the sweep's as well.")
