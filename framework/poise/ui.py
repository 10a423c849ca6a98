"""`poise ui`: MLflow's own UI, on this machine alone, over the database that runs are tracked in."""

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from poise.errors import UserError, nearest
from poise.tracking import address

HOST = "127.0.0.1"
PAGE = "#/experiments?workflowType=machine_learning"  # MLflow opens on language models' traces otherwise
PATHS = ("tracking.uri", "port")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL = 0.05
GRACE = 5.0  # seconds to end in, once asked to
PR_SET_PDEATHSIG = 1
_ERROR = re.compile(r"^[\w.]*(?:Error|Exception): (.+)")


def main(arguments: Sequence[str]) -> int:
    """Serve the UI until Ctrl-C.

    Args:
        arguments: `tracking.uri=…` (else as for runs: MLFLOW_TRACKING_URI, or mlflow.db in the working
            directory) and `port=…` (5000), in any order.

    Raises:
        UserError: no such database, a port that is taken, or a server that does not start.
    """
    given = _read(arguments)
    uri, port = address.resolve(given.get("tracking.uri"), Path.cwd()), _port(given.get("port", "5000"))
    if not address.is_database(uri):
        _refuse_mistake(uri)
        print(f"The UI of that server is at {_shown(uri)}")
        return 0
    _check_database(uri)
    _check_free(port)
    print(f"Starting MLflow on {HOST}:{port}", file=sys.stderr, flush=True)  # which takes seconds
    with _ended_by_signals(), contextlib.suppress(KeyboardInterrupt), _server(uri, port) as (process, output):
        _await(process, output, uri, port)
        print(f"The runs in {_shown(uri)}: http://{HOST}:{port}/{PAGE} (Ctrl-C ends this)", flush=True)
        process.wait()
        raise UserError(f"The MLflow UI ended by itself: {_reason(output)}")
    return 0


def _read(arguments: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for argument in arguments:
        path, equals, value = argument.partition("=")
        if not equals or path not in PATHS:
            raise UserError(f"poise ui has no {path!r}: {', '.join(f'{p}=…' for p in PATHS)}.{nearest(path, PATHS)}")
        if path in found:
            raise UserError(f"{path} is given twice: {found[path]} and {value}.")
        found[path] = value
    return found


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise UserError(f"port={text} is not an integer from 1 to 65535.")
    return int(text)


def _refuse_mistake(uri: str) -> None:
    if wrong := address.mistake(uri):
        raise UserError(f"tracking.uri={_shown(uri)} {wrong}.")


def _check_database(uri: str) -> None:
    """Looking creates nothing: MLflow would make an empty database where there is none."""
    _refuse_mistake(uri)
    path = address.database(uri)
    if path is not None and not path.is_file():
        raise UserError(
            f"There is no database {path}. Run this where `poise train` ran, or say tracking.uri=sqlite:///<file>."
        )


def _shown(uri: str) -> str:
    """An address without the password that may stand in it."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _check_free(port: int) -> None:
    if _is_free(port):
        return
    other = next((p for p in range(port + 1, min(port + 100, 65536)) if _is_free(p)), None)
    raise UserError(f"port={port} is taken.{f' port={other} is free.' if other else ''}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _server(uri: str, port: int) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes]]]:
    """MLflow's server in a group of its own, all of which ends with the context, or with this process."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": uri,  # no argument: those can be read by everybody on the machine
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C reaches it once, through us
            preexec_fn=_end_with_parent,
        )
        try:
            yield process, output
        finally:
            _end(process)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # which MLflow passes on to its worker


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # asked twice, it ends no sooner and no less
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A closed terminal and `kill` end it as Ctrl-C does."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _await(process: "subprocess.Popen[bytes]", output: IO[bytes], uri: str, port: int) -> None:
    """Until it answers."""
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(POLL)
    raise UserError(f"The MLflow UI does not start on {_shown(uri)}: {_reason(output)}")


def _reason(output: IO[bytes]) -> str:
    """The error in what the server said, else its last line."""
    output.seek(0)
    lines = [line.strip() for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [match[1] for line in lines if (match := _ERROR.match(line))]
    return (errors or lines or ["it said nothing"])[-1]
