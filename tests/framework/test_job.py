import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.config import compose
from poise.config.schema import Config
from poise.job import Array, Places, ranks_in_words, script
from poise.run_directory import RunDirectory

NAMES = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\") | st.just(" "), min_size=1
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)
FAKES = {  # of the cluster's programs: what they were called with
    "srun": 'printf "%s\\0" "$MASTER_ADDR" "$MASTER_PORT" "$@" >"$RECORD"; exit "${STATUS:-0}"',
    "scontrol": 'case $* in "show hostnames node[7-8]") printf "%s\\n" node7 node8 ;; '
    'requeue*) echo "$*" >"$RECORD-requeue" ;; *) exit 1 ;; esac',
    "squeue": 'echo "$STATE"',
}


def places(run: str = "/shared/runs/mine") -> Places:
    return Places(RunDirectory(Path(run)), Path("/shared/work"), Path("/shared/poise/bin/python"))


def job(run: str = "/shared/runs/mine", **slurm: object) -> str:
    return script(compose({"recipe": "plain", "slurm": slurm}), places(run))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a batch script on the first node of a job."""
    folder = tmp_path_factory.mktemp("cluster")
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    return {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "RECORD": str(folder / "record"),
        "SLURM_JOB_ID": "30007",
        "SLURM_JOB_NODELIST": "node[7-8]",
    }


def run(text: str, environment: dict[str, str], code: int = 0) -> list[str]:
    """What a job's `srun` gets: the place where ranks meet, then its arguments."""
    done = subprocess.run(["bash"], input=text, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return Path(environment["RECORD"]).read_text().split("\0")[:-1]


def test_a_whole_job() -> None:
    text = job(
        nodes=2,
        gpus=4,
        cpus=8,
        time="8:00:00",
        account="me",
        partition="gpu",
        qos="high",
        constraint="a100&nvlink",
        extra="--mem=64G --comment 'two words'",
        setup="module load cuda\nexport A=1,2\n",
        prefix="--cpu-bind=cores apptainer exec --nv $HOME/my.sif",
        python="/opt/bin/python",
    )
    assert (
        text
        == """\
#!/bin/bash
#SBATCH --job-name=plain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=8:00:00
#SBATCH --account=me
#SBATCH --partition=gpu
#SBATCH --qos=high
#SBATCH --constraint=a100&nvlink
#SBATCH --chdir=/shared/work
#SBATCH --output=/shared/runs/mine/slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --mem=64G --comment "two words"
set -e

module load cuda
export A=1,2

if [ -z "${MASTER_ADDR:-}" ]; then
    hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    MASTER_ADDR=${hosts%%$'\\n'*}
fi
MASTER_PORT=${MASTER_PORT:-$((10000 + SLURM_JOB_ID % 20000))}
export MASTER_ADDR MASTER_PORT

job=$SLURM_JOB_ID
run=/shared/runs/mine
say() { echo "$(date "+%F %T") job $job: $*"; }
again() { say "back into the queue, to go on later" && scontrol requeue "$job"; }
say "start $((${SLURM_RESTART_COUNT:-0} + 1)) on $SLURM_JOB_NODELIST, in $run"
srun --export=ALL --kill-on-bad-exit=1 --cpus-per-task=8 --open-mode=append --output="${run//%/%%}/logs/rank-%t.log" \\
    --cpu-bind=cores apptainer exec --nv $HOME/my.sif \\
    /opt/bin/python -m poise.slurm_task train config="$run/config.yaml" || {
    status=$?
    # ended by SIGTERM in a job that is to go on: it makes room for another
    if [ "$status" = 143 ] && [ "$(squeue --noheader --format=%T --jobs="$job")" = RUNNING ]; then
        again
        exit
    fi
    tail -n 20 "$run"/logs/rank-*.log || :
    exit "$status"
}
# nothing failed: a run without its report stopped to go on later
[ -f "$run/report.json" ] || again
"""
    )


def test_what_is_not_asked_for_is_left_to_the_cluster() -> None:
    options = [line.split()[1] for line in job().splitlines() if line.startswith("#SBATCH")]
    assert options == [
        "--job-name=plain",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--chdir=/shared/work",
        "--output=/shared/runs/mine/slurm-%j.log",
        "--open-mode=append",
        "--signal=USR1@120",
        "--requeue",
    ]


@pytest.mark.parametrize(
    ("values", "tasks", "words"),
    [
        ({"slurm": {"nodes": 2, "gpus": 4}}, 4, "8 ranks on 2 nodes"),
        ({"slurm": {"gpus": 1}}, 1, "1 rank on 1 node"),
        ({"slurm": {"nodes": 2}}, 1, "2 ranks on 2 nodes"),
        ({"slurm": {"nodes": 2}, "trainer": {"devices": 4}}, 2, "4 ranks on 2 nodes"),
        ({"trainer": {"devices": 4}}, 4, "4 ranks on 1 node"),
    ],
)
def test_one_task_is_one_rank(values: dict[str, object], tasks: int, words: str) -> None:
    config: Config = compose(values)
    assert f"--ntasks-per-node={tasks}\n" in script(config, places())
    assert ranks_in_words(config) == words


def test_ranks_meet_on_the_first_node_or_where_the_user_says(cluster: dict[str, str]) -> None:
    assert run(job(nodes=2), cluster)[:2] == ["node7", "20007"]
    preset = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4711"}
    assert run(job(nodes=2), cluster | preset)[:2] == ["10.0.0.1", "4711"]
    assert run(job(nodes=2, setup="MASTER_ADDR=there"), cluster)[:2] == ["there", "20007"]


def test_a_job_that_fails_shows_each_ranks_last_lines_and_ends_as_srun_did(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "a run"
    (directory / "logs").mkdir(parents=True)
    for rank in (0, 1):
        (directory / "logs" / f"rank-{rank}.log").write_text(f"the end of {rank}\n")
    text = job(str(directory))
    done = subprocess.run(["bash"], input=text, env=cluster | {"STATUS": "7"}, capture_output=True, text=True)
    assert done.returncode == 7
    assert all(f"the end of {rank}\n" in done.stdout for rank in (0, 1))


@pytest.mark.parametrize(
    ("status", "state", "goes_on"),
    [(143, "RUNNING", True), (143, "COMPLETING", False), (143, "", False), (7, "RUNNING", False)],
)
def test_a_job_that_is_ended_to_make_room_for_another_goes_back_into_the_queue(
    cluster: dict[str, str], tmp_path: Path, status: int, state: str, goes_on: bool
) -> None:
    asked = Path(f"{cluster['RECORD']}-requeue")
    asked.unlink(missing_ok=True)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "rank-0.log").touch()
    run(job(str(tmp_path)), cluster | {"STATUS": str(status), "STATE": state}, code=0 if goes_on else status)
    assert asked.exists() == goes_on


def test_a_job_without_a_ranks_log_ends_as_srun_did(cluster: dict[str, str], tmp_path: Path) -> None:
    run(job(str(tmp_path)), cluster | {"STATUS": "7"}, code=7)


def test_a_run_that_stopped_without_its_report_goes_back_into_the_queue(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    asked = Path(f"{cluster['RECORD']}-requeue")
    asked.unlink(missing_ok=True)
    done = subprocess.run(["bash"], input=job(str(tmp_path)), env=cluster, capture_output=True, text=True)
    assert asked.read_text() == "requeue 30007\n"
    started, back = done.stdout.splitlines()
    assert started.endswith(f"job 30007: start 1 on node[7-8], in {tmp_path}")
    assert back.endswith("job 30007: back into the queue, to go on later")
    asked.unlink()
    (tmp_path / "report.json").write_text("{}")
    run(job(str(tmp_path)), cluster)
    assert not asked.exists()


@pytest.mark.parametrize(
    ("slurm", "option"),
    [
        ({}, "--signal=USR1@120"),
        ({"time": "5"}, None),
        ({"time": "10"}, "--signal=USR1@120"),
        ({"time": "5", "notice": 30}, "--signal=USR1@30"),
        ({"notice": 0}, None),
    ],
)
def test_a_job_has_notice_of_its_end(slurm: dict[str, object], option: str | None) -> None:
    assert [line.split()[1] for line in job(**slurm).splitlines() if "--signal" in line] == (
        [option] * (option is not None)
    )


def test_a_set_up_that_fails_ends_the_job(cluster: dict[str, str]) -> None:
    Path(cluster["RECORD"]).write_text("nothing\0")
    assert run(job(setup="false"), cluster, code=1) == ["nothing"]


def test_prefix_and_setup_are_shell(cluster: dict[str, str]) -> None:
    words = run(job(setup='export WHERE="a  b"', prefix='env A="$WHERE"'), cluster)
    assert words[-7:-4] == ["env", "A=a  b", "/shared/poise/bin/python"]


@settings(max_examples=40, deadline=None)
@given(name=NAMES)
def test_no_name_is_taken_apart(cluster: dict[str, str], name: str) -> None:
    """Spaces, quotes, `$()`, percent signs: as they are, in what Slurm reads and in what the shell reads."""
    text = job(f"/shared/{name}")
    (line,) = [line for line in text.splitlines() if line.startswith("#SBATCH --output=")]
    filled = name.replace("%", "%%")
    assert shlex.split(line.removeprefix("#SBATCH"), comments=True) == [f"--output=/shared/{filled}/slurm-%j.log"]
    words = run(text, cluster)
    assert words[-1] == f"config=/shared/{name}/config.yaml"
    assert f"--output=/shared/{filled}/logs/rank-%t.log" in words


@settings(max_examples=40, deadline=None)
@given(
    value=st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1).filter(lambda t: t != "none")
)
def test_no_option_is_taken_apart(value: str) -> None:
    lines = job(account=value, extra=shlex.join([f"--comment={value}", "--wckey", ""])).splitlines()
    options = [shlex.split(line.removeprefix("#SBATCH"), comments=True) for line in lines if line.startswith("#SBATCH")]
    assert [f"--account={value}"] in options
    assert options[-1] == [f"--comment={value}", "--wckey", ""]


def test_each_job_of_an_array_has_its_own_run_and_all_else_in_common(cluster: dict[str, str]) -> None:
    names = ["recipe=trades,seed=0", "recipe=trades,seed=1", "recipe=trades-awp,seed=0"]
    config, one = compose({"recipe": "plain", "slurm": {"gpus": 2}}), "/shared/50% runs"
    text = script(config, places(one), Array(names, [0, 1, 2]))
    task = {"SLURM_ARRAY_JOB_ID": "30005", "SLURM_ARRAY_TASK_ID": "2"}
    words = run(text, cluster | task)
    assert words == run(script(config, places(f"{one}/{names[2]}")), cluster)
    assert words[-1] == f"config={one}/{names[2]}/config.yaml"
    assert "--output=/shared/50%% runs/recipe=trades-awp,seed=0/logs/rank-%t.log" in words
    own = ("#SBATCH --array=0-2", "#SBATCH --job-name=50-runs", '#SBATCH --output="/shared/50%% runs/slurm-%A_%a.log"')
    assert set(own) <= set(text.splitlines())
    # 30007 may be the number of this job or of the whole array: of the last job it is both
    assert Path(f"{cluster['RECORD']}-requeue").read_text() == "requeue 30007\n"
    run(text, cluster | task)
    assert Path(f"{cluster['RECORD']}-requeue").read_text() == "requeue 30005_2\n"


@pytest.mark.parametrize(
    ("tasks", "parallel", "option"),
    [([0, 1, 2, 5], None, "0-2,5"), ([3], 2, "3%2"), ([1, 3, 4], None, "1,3-4"), (list(range(1000)), 8, "0-999%8")],
)
def test_the_places_in_an_array_that_are_trained(tasks: list[int], parallel: int | None, option: str) -> None:
    config = compose({"recipe": "plain", "slurm": {"parallel": parallel}})
    text = script(config, places(), Array([f"seed={seed}" for seed in range(1000)], tasks))
    assert f"#SBATCH --array={option}\n" in text


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    text = job(nodes=2, gpus=4, cpus=2, setup="module load cuda", prefix="apptainer exec my.sif", extra="--mem=1G")
    for job_text in (text, script(compose({"recipe": "plain"}), places(), Array(["seed=0", "seed=1"], [0, 1]))):
        done = subprocess.run(["shellcheck", "-"], input=job_text, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
