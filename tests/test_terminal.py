"""What the command line shows, and with which exit code it ends."""

from __future__ import annotations

import io
import json
import logging
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from flows import terminal
from flows.servers import temporary
from flows.sweeps.text import ended_text
from flows.terminal import ProgressLine, duration, exit_codes, origin, print_json, progress_text, summary, table
from orca.errors import InputError, TrainingError
from orca.runtime import number
from tests.patience import PATIENCE

RECORD: dict[str, Any] = {
    "run": "mine-full-s0-12345678", "path": "runs/runs/mine-full-s0-12345678", "task": "mine", "body": "minilm",
    "align": "otdd", "method": "full", "seed": 0,
    "metric": {"name": "error", "value": 0.03125, "higher_is_better": False, "ci95": [0.02, 0.05], "n": 300},
    "validation": {"value": 0.03, "epoch": 7}, "shift": {"speaker": 0.21}, "baselines": {"majority": 0.9},
    "parameters": {"total": 10_900_000, "trained": 10_900_000},
    "stages": [{"name": "embed", "seconds": 1.23, "cached": False}, {"name": "align", "seconds": 0.1, "cached": True}],
    "created": "2026-01-01T00:00:00+00:00", "commit": None, "peak_memory_mb": 1234.5,
    "machine": {"cpu": "Some CPU", "cores": 2, "gpu": None, "platform": "Linux"}, "versions": {"python": "3.11"},
    "body_revision": "package x", "body_sha256": "ab" * 32, "notes": ["validation: as given"],
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch, columns: int = 200) -> Terminal:
    """Makes standard error a terminal. No fixture: pytest puts its own in place between fixtures and test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    return stream


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.123456, "0.1235"), (None, "-"), (float("nan"), "-"), (float("inf"), "-")]
)
def test_numbers_have_four_digits_and_a_dash_where_there_is_none(value: float | None, text: str) -> None:
    assert number(value) == text


def test_columns_of_a_table_stand_under_their_header() -> None:
    assert table([["a", "long cell"], ["bcd", "x"]], ["k", "v"]) == "k    v\na    long cell\nbcd  x"


def test_json_has_null_for_what_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"value": float("nan"), "ci95": [0.0, float("inf")], "name": "é"})
    assert json.loads(capsys.readouterr().out) == {"value": None, "ci95": [0.0, None], "name": "é"}


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.7, "1:00"), (3599, "59:59"), (3725, "1:02:05")])
def test_durations_are_minutes_and_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_progress_line_has_epoch_loss_validation_and_time_left() -> None:
    facts = {"stage": "finetune", "epoch": 2, "epochs": 7, "train_loss": 0.5, "val_metric": 0.25, "left": 75.0}
    assert progress_text(facts) == "finetune   epoch 2/7  loss 0.5  validation 0.25  1:15 left"
    assert progress_text({"stage": "align", "epoch": 1, "epochs": 4, "objective": 3.0, "probe": None}).endswith(
        "epoch 1/4  distance 3"
    )


def test_progress_is_one_line_that_is_written_over_and_one_per_finished_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal_of(monkeypatch)
    line = ProgressLine()
    line({"stage": "embed"})
    line({"stage": "embed", "done": 1.234, "cached": False})
    line({"stage": "align"})
    line({"stage": "align", "done": 0.0, "cached": True})
    seen = [part.rpartition(terminal.CLEAR)[2] for part in shown.getvalue().split("\n")]
    assert seen == ["embed     1.2 s", "align     reused", ""]


def test_a_long_progress_line_is_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal_of(monkeypatch, columns=60)
    ProgressLine()({"stage": "finetune", "epoch": 1, "epochs": 2, "step": 3, "steps": 4, "train_loss": 1 / 3,
                    "val_metric": 1 / 3, "left": 1000})  # fmt: skip
    assert len(shown.getvalue().removeprefix(terminal.CLEAR)) == 59


def test_a_sweep_tells_between_the_ends_of_runs_how_many_stages_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.commands.sweep import _tell

    shown, standing = terminal_of(monkeypatch), SimpleNamespace(stages=lambda: (3, 17), progress=lambda row: (1, 4))
    _tell(standing, None)
    assert shown.getvalue().rpartition(terminal.CLEAR)[2] == "3 of 17 stages done"
    _tell(standing, {"run": "a-full-s0-0", "state": "completed", "metric": "error", "test": 0.5})
    assert shown.getvalue().rpartition(terminal.CLEAR)[2] == "[1/4] a-full-s0-0: error 0.5\n"


def test_validation_and_time_left_stay_while_the_next_epoch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, now = terminal_of(monkeypatch), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    line = ProgressLine()
    line({"stage": "finetune", "epoch": 1, "epochs": 3, "train_loss": 2.0, "val_metric": 0.25, "left": 60.0})
    now[0] += 20
    line({"stage": "finetune", "epoch": 2, "epochs": 3, "step": 1, "steps": 9, "train_loss": 1.0})
    assert shown.getvalue().endswith("finetune   epoch 2/3  step 1/9  loss 1  validation 0.25  0:40 left")
    line({"stage": "evaluate"})
    assert shown.getvalue().rpartition(terminal.CLEAR)[2].strip() == "evaluate"


def test_without_a_terminal_progress_tells_of_retries_alone(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine()
    line({"stage": "embed"})
    line({"stage": "embed", "done": 1.0, "cached": False})
    assert capsys.readouterr().err == ""
    line({"stage": "align", "retry": "OSError: no space"})
    assert capsys.readouterr().err == "orca: align failed, trying once more: OSError: no space\n"


def test_a_summary_has_the_result_beside_baselines_and_shift_sets() -> None:
    text = summary(RECORD)
    for part in ("test error (lower is better), n = 300", "this run       0.03125  [0.02, 0.05] 95 %",
                 "majority       0.9", "shift speaker  0.21", "embed 1.2 s, align reused",
                 "10,900,000 of 10,900,000 trained", "0.03 in epoch 7", "report.html"):  # fmt: skip
        assert part in text


def test_the_origin_of_a_run_is_in_words() -> None:
    text = origin(RECORD)
    assert "Some CPU, 2 cores, no GPU, Linux; peak memory 1,234 MiB" in text
    assert "commit unknown" in text
    assert "note        validation: as given" in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (InputError("x must be 1; got 2"), 2, "orca: x must be 1; got 2\n"),
        (PermissionError(13, "Permission denied", "/place"), 2, "orca: no permission for /place"),
        (TrainingError("the loss became nan"), 1, "orca: the loss became nan\n"),
        (KeyboardInterrupt(), 130, "orca: stopped; go on so\n"),
    ],
)
def test_faults_of_the_user_end_with_one_message(fault: BaseException, code: int, message: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended, exit_codes("stopped; go on so"):
        raise fault
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize("fault", [ValueError("a bug"), RuntimeError("a bug"), KeyError("a bug")])
def test_faults_of_the_program_keep_their_traceback(fault: Exception) -> None:
    with pytest.raises(type(fault), match="a bug"), exit_codes():
        raise fault


def test_warnings_are_told_once_and_prefects_own_account_of_a_failure_is_not(capsys, monkeypatch) -> None:
    for name in (None, "prefect.flow_runs", "prefect.task_runs"):  # without what pytest and Prefect have put there
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    monkeypatch.delenv("PREFECT_LOGGING_LEVEL", raising=False)
    terminal.log_to_stderr()
    logging.getLogger("orca.store").warning("it is damaged")
    logging.getLogger("orca.store").info("it is there")
    logging.getLogger("prefect.flow_runs").error("Encountered exception during execution")
    logging.getLogger("prefect.task_runs").error("Task run failed")
    assert capsys.readouterr().err == "orca.store: it is damaged\n"


def test_a_temporary_server_that_does_not_come_up_says_what_it_wrote(tmp_path, monkeypatch) -> None:
    script = tmp_path / "server.py"
    script.write_text("import sys; sys.exit('the database is gone')")
    monkeypatch.setattr(temporary, "__file__", str(script))
    made = temporary.TemporaryServer()
    with pytest.raises(RuntimeError, match="does not answer.*the database is gone"):
        made.wait()
    made.stop()


def test_temporary_servers_that_start_at_once_make_their_database_one_after_the_other(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    made = []
    for _ in range(3):
        made.append(temporary.TemporaryServer())
        time.sleep(0.3)  # at the very same moment they wait for each other as it is
    for server in made:
        assert server.wait().endswith("/api")
        server.stop()


def test_a_temporary_server_does_not_outlive_a_command_that_is_killed() -> None:
    code = "import os; from flows.servers.temporary import TemporaryServer as T; s = T(); print(s._port); os._exit(9)"
    done = subprocess.run(
        [sys.executable, "-u", "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    ending = time.monotonic() + PATIENCE
    while time.monotonic() < ending:
        try:
            socket.create_connection(("127.0.0.1", int(done.stdout)), timeout=1).close()
        except ConnectionRefusedError:  # nobody listens any more
            return
        time.sleep(0.1)
    pytest.fail("it still listens")


def test_a_run_of_a_sweep_is_told_with_what_the_sweep_varied() -> None:
    row = {"run": "tiny-s0", "task": "tiny", "seed": 0, "state": "completed", "metric": "error", "test": 0.25}
    assert ended_text(row) == "tiny-s0: error 0.25"
    varied = {**row, "variant": "frozen, otdd", "finetune.lr": 0.001}
    assert ended_text(varied) == "tiny-s0 (frozen, otdd, finetune.lr 0.001): error 0.25"
    assert ended_text({**varied, "state": "failed", "reason": "diverged\nat step 3"}).endswith("0.001): diverged")
