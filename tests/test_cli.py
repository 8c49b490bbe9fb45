"""The command `orca`: what it prints where, and that bad input ends with a message and exit code 2 before any work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner, Result

import orca
from flows.cli import app
from orca.errors import TrainingError
from orca.runs import run_path
from orca.sources import SOURCES
from orca.store import Store
from tests.patience import PATIENCE
from tests.test_run import settings, write_data
from tests.tiny import save_tiny_body, tiny_adapted

COMMANDS = (
    "run",
    "runs",
    "show",
    "report",
    "predict",
    "export",
    "tasks",
    "bodies",
    "methods",
    "sources",
    "otdd",
    "data",
    "schedule",
    "schedules",
    "serve",
)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here starts a flow: with an address of a server, the command starts none either."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.delenv("ORCA_DATA", raising=False)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_body(tmp_path_factory.mktemp("body"))


@pytest.fixture(scope="module")
def finished(body: Path, tmp_path_factory: pytest.TempPathFactory) -> orca.RunResult:
    """A run, made without Prefect."""
    folder = tmp_path_factory.mktemp("finished")
    return orca.adapt(settings(folder, body), store=folder / "store")


def store_of(result: orca.RunResult) -> Path:
    return result.path.parent.parent


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(result: Result) -> str:
    """The message of a command that ended with exit code 2."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("orca: ")
    assert "Traceback" not in result.stderr
    return result.stderr


def config_file(folder: Path, body: Path, **changes: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings(folder, body, **changes)))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    listed = call("--help").stdout
    assert re.search(rf"^  {command} +\w.*\.$", listed, re.MULTILINE), "its line in the list is cut"


def test_help_imports_no_heavy_package() -> None:
    code = (
        "import sys; sys.argv = ['orca', '--help']\n"
        "from flows.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*{'torch', 'prefect', 'pydantic', 'numpy', 'transformers'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert done.stdout.lstrip().startswith("Usage: orca")
    assert done.stderr.strip() == ""


def test_the_command_itself_ends_with_code_two_and_a_message_alone(tmp_path) -> None:
    code = "import sys; sys.argv[0] = 'orca'; from flows.cli import main; main()"
    command = [sys.executable, "-c", code, "run", "digitz", "--store", str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("orca: there is no configuration 'digitz'; did you mean digits")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "store").exists()


# Bad input to `orca run`: what is wrong with the configuration, and what with the data.

SETTINGS: dict[str, tuple[list[str], str]] = {
    "wrong key": (["finetune.epoch=3"], "finetune.epoch: there is no such key; did you mean 'epochs'?"),
    "wrong type": (["align.epochs=many"], "align.epochs: input should be a valid integer"),
    "out of range": (["finetune.lr=0"], "finetune.lr: input should be greater than 0"),
    "no such method": (["finetune.method=ful"], "finetune.method: there is no 'ful'; did you mean 'full'?"),
    "no such objective": (["align.objective=otd"], "align.objective: there is no 'otd'; did you mean 'otdd'?"),
    "no such metric": (["metric=errors"], "metric: there is no 'errors'; did you mean 'error'?"),
    "metric of other targets": (["metric=rmse"], "metric 'rmse' is for targets of kind 'scalar'"),
    "no such device": (["device=gpu"], "device must be auto, cpu, cuda, cuda:N or mps; got 'gpu'"),
    "no such body": (["body=minilmm"], "body: there is no 'minilmm'; did you mean 'minilm'?"),
    "smaller than a patch": (["embed.patch=13"], "have an axis of 12; choose a smaller patch"),
    "no such data": (["task.data=nowhere.npz"], "there is no file"),
    "override without a value": (["finetune.lr"], "an override is key=value"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_bad_settings_are_refused_before_work_starts(case: str, tmp_path, body) -> None:
    given, message = SETTINGS[case]
    options = [part for setting in given for part in ("-s", setting)]
    result = call("run", config_file(tmp_path, body), "--store", tmp_path / "store", *options)
    assert message in refused(result)
    assert not (tmp_path / "store").exists()


def test_all_faults_of_a_configuration_come_at_once(tmp_path, body) -> None:
    path = config_file(tmp_path, body, finetune={"lrr": 1}, align={"epochs": "many"}, device=3)
    message = refused(call("run", path, "-s", "source.name=nerr", "--store", tmp_path / "store"))
    assert "config.yaml has 4 faults" in message
    for path_of_fault in ("finetune.lrr: ", "align.epochs: ", "device: ", "source.name: "):
        assert f"  - {path_of_fault}" in message


def changed(name: str, change: Callable[[np.ndarray], Any]) -> Callable[[dict[str, Any]], None]:
    def apply(arrays: dict[str, Any]) -> None:
        arrays[name] = change(arrays[name].copy())

    return apply


def with_value(value: float, at: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[at] = value
        return array

    return change


DATA: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "nan": (changed("x_train", with_value(np.nan, 3)), "x_train has 12 NaN or infinite values in 1 of 40 rows"),
    "infinite": (changed("x_test", with_value(np.inf, 0)), "x_test has 12 NaN or infinite values"),
    "lengths differ": (changed("y_test", lambda y: y[:-1]), "they need one target per input"),
    "labels from one": (lambda a: a.update({k: v + 1 for k, v in a.items() if k[0] == "y"}), "0..K-1"),
    "labels are fractions": (changed("y_train", lambda y: y + 0.5), "labels that are not integers 0..K-1"),
    "a class that train lacks": (changed("y_test", with_value(2, 0)), "y_test has classes that train lacks: 2"),
    "a gap in the classes": (changed("y_train", lambda y: y * 2), "lacks 1"),
    "one class only": (lambda a: a.update({k: v * 0 for k, v in a.items() if k[0] == "y"}), "one class only"),
    "empty split": (lambda a: a.update(x_val=a["x_val"][:0], y_val=a["y_val"][:0]), "split val is empty"),
    "half a split": (lambda a: a.pop("y_shift_loud"), "y_shift_loud is missing"),
    "no test set": (lambda a: a.pop("x_test"), "lacks x_test"),
    "objects": (changed("y_train", lambda y: y.astype(object)), "pickled objects"),
}


@pytest.mark.parametrize("case", DATA)
def test_bad_data_is_refused_before_work_starts(case: str, tmp_path, body) -> None:
    change, message = DATA[case]
    with np.load(write_data(tmp_path / "data.npz")) as file:
        arrays: dict[str, Any] = dict(file)
    change(arrays)
    np.savez(tmp_path / "data.npz", **arrays)
    result = call("run", config_file(tmp_path, body), "--store", tmp_path / "store")
    assert message in refused(result)
    assert not (tmp_path / "store").exists()


def test_an_image_smaller_than_a_patch_is_refused(tmp_path, body) -> None:
    draw = np.random.default_rng(0)
    arrays = {f"x_{name}": draw.normal(size=(40, 8, 6)).astype(np.float32) for name in ("train", "val", "test")}
    np.savez(tmp_path / "data.npz", **arrays, **{f"y_{name}": np.arange(40) % 2 for name in ("train", "val", "test")})
    path = config_file(tmp_path, body, task={"input": "grid"}, embed={"patch": 7})
    assert "embed.patch is 7, but the inputs of shape (1, 8, 6) have an axis of 6" in refused(call("run", path))


@pytest.mark.parametrize(("folder", "message"), [(None, "ORCA_DATA is not set"), ("nowhere", "there is none in")])
def test_a_missing_data_folder_is_named_with_the_way_to_set_it(folder: str | None, message: str, monkeypatch) -> None:
    if folder:
        monkeypatch.setenv("ORCA_DATA", folder)
    text = refused(call("run", "fsdd"))
    assert message in text
    assert "set ORCA_DATA to the folder that holds fsdd.npz" in text


def test_a_body_that_is_not_there_is_named_with_what_it_lacks(tmp_path, body) -> None:
    config = config_file(tmp_path, body)
    (tmp_path / "empty").mkdir()
    assert "it lacks config.json and model.safetensors" in refused(call("run", config, "-s", f"body={tmp_path}/empty"))
    shutil.copytree(body, tmp_path / "other")
    kind = {**json.loads((body / "config.json").read_text()), "model_type": "t5"}
    (tmp_path / "other" / "config.json").write_text(json.dumps(kind))
    assert "holds a model of type 't5'; supported are" in refused(call("run", config, "-s", f"body={tmp_path}/other"))


def test_a_configuration_that_is_not_there_or_no_yaml_is_refused(tmp_path) -> None:
    assert "there is no configuration file" in refused(call("run", tmp_path / "no.yaml"))
    (tmp_path / "bad.yaml").write_text("task: [")
    assert "is not YAML" in refused(call("run", tmp_path / "bad.yaml"))


def test_a_wrong_stage_or_store_is_refused(tmp_path, body) -> None:
    config = config_file(tmp_path, body)
    assert "there is no stage 'tune'" in refused(call("run", config, "--fresh", "tune"))
    assert "the store must be a folder" in refused(call("run", config, "--store", config))
    assert "cannot be made" in refused(call("run", config, "--store", config / "below"))


def test_a_server_that_does_not_answer_is_named(tmp_path, body) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        message = refused(call("run", config_file(tmp_path, body), "--store", tmp_path / "store"))
    assert "the Prefect server at http://127.0.0.1:9/api does not answer" in message


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [(TrainingError("the loss became nan"), 1, "orca: the loss became nan\n"),
     (KeyboardInterrupt(), 130, "orca: stopped; orca resume, or the same command, goes on from the last checkpoint\n")],
)  # fmt: skip
def test_a_run_that_cannot_go_on_says_so_in_one_line(
    fault, code: int, message: str, tmp_path, body, monkeypatch
) -> None:
    def launch(*given: Any, **named: Any) -> None:
        raise fault

    monkeypatch.setattr("flows.adapt.launch", launch)
    result = call("run", config_file(tmp_path, body), "--store", tmp_path / "store")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", message)


def test_the_command_hands_its_options_to_the_flow(tmp_path, body, finished, monkeypatch) -> None:
    seen: dict[str, Any] = {}

    def launch(config: orca.RunConfig, **named: Any) -> orca.RunResult:
        seen.update(named, config=config)
        return finished

    monkeypatch.setattr("flows.adapt.launch", launch)
    options = ["--seed", 3, "-s", "finetune.lr=1e-5", "--fresh", "align", "--fresh", "evaluate", "--online"]
    result = call("run", config_file(tmp_path, body), "--store", tmp_path / "a store", *options)
    assert result.exit_code == 0, result.output
    assert (seen["config"].seed, seen["config"].finetune.lr) == (3, 1e-5)
    assert (seen["fresh"], seen["online"], seen["store"]) == (("align", "evaluate"), True, tmp_path / "a store")
    assert seen["server"] is None  # PREFECT_API_URL names one
    assert f"next: orca show {finished.record['run']} --store '{tmp_path}/a store'" in result.stdout


# The commands that look at runs.


def test_runs_are_listed_with_their_result(finished, tmp_path) -> None:
    listed = call("runs", "--store", store_of(finished))
    assert listed.exit_code == 0
    assert listed.stdout.splitlines()[0].split() == ["run", "state", "align", "metric", "test", "made"]
    assert listed.stdout.splitlines()[1].startswith(finished.record["run"])
    assert [entry["run"] for entry in json.loads(call("runs", "--json", "--store", store_of(finished)).stdout)] == [
        finished.record["run"]
    ]
    empty = call("runs", "--store", tmp_path)
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "no runs in" in empty.stderr
    assert json.loads(call("runs", "--json", "--store", tmp_path).stdout) == []


def test_a_run_is_shown_with_baselines_machine_and_settings_where_it_lies_now(finished, tmp_path) -> None:
    shutil.copytree(store_of(finished), tmp_path / "moved")
    text = call("show", "tiny", "--store", tmp_path / "moved").stdout
    for part in ("majority", "linear", "nearest", "shift loud", "  machine     ", "python 3.", "batch_size: 8"):
        assert part in text
    assert f"{tmp_path}/moved/runs/{finished.record['run']}/report.html" in text
    assert "{'" not in text
    shown = json.loads(call("show", "tiny", "--json", "--store", tmp_path / "moved").stdout)
    assert shown["metric"] == finished.record["metric"]
    assert shown["metrics"]["test"] == finished.record["metric"]
    assert shown["path"] == f"{tmp_path}/moved/runs/{finished.record['run']}"


def test_the_report_is_written_anew_and_its_path_printed(finished) -> None:
    page = finished.path / "report.html"
    page.unlink()
    result = call("report", finished.record["run"], "--store", store_of(finished))
    assert result.stdout == f"{page.absolute()}\n"
    assert page.is_file()


@pytest.mark.parametrize("command", ["show", "report"])
def test_a_run_that_is_not_there_names_the_near_ones(command: str, finished) -> None:
    wrong = finished.record["run"].replace("tiny", "tinny")
    message = refused(call(command, wrong, "--store", store_of(finished)))
    assert f"did you mean {finished.record['run']}" in message


def test_a_run_whose_record_is_damaged_is_told_as_such(finished, tmp_path) -> None:
    shutil.copytree(store_of(finished), tmp_path / "store")
    (tmp_path / "store" / "runs" / finished.record["run"] / "run.json").write_text("{")
    assert "run.json is damaged" in refused(call("show", "tiny", "--store", tmp_path / "store"))
    assert "unreadable" in call("runs", "--store", tmp_path / "store").stdout


# Predictions.


def test_a_run_predicts_raw_inputs_as_it_was_evaluated(finished, tmp_path) -> None:
    data = np.load(store_of(finished).parent / "data.npz")
    np.savez(tmp_path / "in.npz", x=data["x_test"])
    for model in (finished.record["run"], finished.path, finished.path / "model"):
        result = call("predict", model, tmp_path / "in.npz", tmp_path / "out.npz", "--store", store_of(finished))
        assert (result.exit_code, result.stdout) == (0, ""), result.output
        with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
            assert np.mean(out["prediction"] != data["y_test"]) == pytest.approx(finished.record["metric"]["value"])
            assert out["probability"].shape == (20, 2)


def test_inputs_of_another_shape_are_refused(finished, tmp_path) -> None:
    np.savez(tmp_path / "in.npz", x=np.zeros((3, 2, 12), np.float32))
    result = call("predict", finished.path, tmp_path / "in.npz", tmp_path / "out.npz")
    assert "the model takes inputs of shape (n, 1, 12); got (3, 2, 12)" in refused(result)
    assert not (tmp_path / "out.npz").exists()


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path) -> None:
    shutil.copytree(finished.path / "model", tmp_path / "model")
    tiny_adapted("multilabel").save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "model")
    np.savez(tmp_path / "in.npz", x=np.zeros((3, 1, 12), np.float32))
    message = refused(call("predict", tmp_path / "model", tmp_path / "in.npz", tmp_path / "out.npz"))
    assert "model.safetensors holds another model" in message


def test_a_model_that_is_not_there_is_refused(tmp_path) -> None:
    np.savez(tmp_path / "in.npz", x=np.zeros((3, 1, 12), np.float32))
    missing = call("predict", "nothing", tmp_path / "in.npz", tmp_path / "out.npz", "--store", tmp_path / "store")
    assert "there is no run 'nothing'" in refused(missing)


def test_a_model_is_exported_whole_in_part_and_merged_and_predicts_alike(body, tmp_path) -> None:
    config = settings(tmp_path, body, finetune={"method": "lora", "epochs": 1})
    run, store = orca.adapt(config, store=tmp_path / "store").record["run"], tmp_path / "store"
    np.savez(tmp_path / "in.npz", x=np.load(tmp_path / "data.npz")["x_test"])
    answers, weights, methods = {}, {}, {}
    for option in ("", "--trained-only", "--merge"):
        folder = tmp_path / f"out{option}"
        result = call("export", run, folder, *filter(None, [option]), "--store", store)
        assert result.exit_code == 0, result.output
        assert f"{folder}: config.json, " in result.stderr
        (weights[option],) = folder.glob("*.safetensors")
        methods[option] = (json.loads((folder / "config.json").read_text())["method"] or {}).get("name")
        assert call("predict", folder, tmp_path / "in.npz", tmp_path / "out.npz").exit_code == 0
        with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
            answers[option] = out["probability"]
    np.testing.assert_array_equal(answers["--trained-only"], answers[""])
    np.testing.assert_allclose(answers["--merge"], answers[""], atol=1e-5)
    assert weights["--trained-only"].name == "trained.safetensors"
    assert weights["--trained-only"].stat().st_size < weights[""].stat().st_size / 2
    assert methods == {"": "lora", "--trained-only": "lora", "--merge": None}
    again = call("export", run, folder, "--store", store)
    assert f"{folder} is there already; name a new folder" in refused(again)
    below = call("export", run, tmp_path / "in.npz" / "sub", "--store", store)
    assert f"{tmp_path / 'in.npz' / 'sub'} cannot be written: " in refused(below)
    assert not list(tmp_path.glob(".export-*"))
    both = call("export", run, tmp_path / "new", "--merge", "--trained-only", "--store", store)
    assert "choose --merge or --trained-only" in refused(both)
    assert not (tmp_path / "new").exists()


# What there is.


@pytest.mark.parametrize(
    ("command", "registry"),
    [("tasks", orca.TASKS), ("bodies", orca.BODIES), ("methods", orca.METHODS), ("sources", SOURCES)],
)
def test_lists_name_everything_that_is_registered(command: str, registry: Any) -> None:
    rows = json.loads(call(command, "--json").stdout)
    key = next(iter(rows[0]))
    assert [row[key] for row in rows] == registry.names()
    printed = call(command).stdout.splitlines()
    assert [line.split()[0] for line in printed] == [key, *registry.names()]


def test_the_list_of_tasks_says_whose_data_is_here() -> None:
    here = {row["task"]: row["here"] for row in json.loads(call("tasks", "--json").stdout)}
    assert here["digits"] is True
    assert here["fsdd"] is False
    assert "ORCA_DATA" in call("tasks").stderr


def test_a_store_is_found_through_the_environment(finished, monkeypatch) -> None:
    monkeypatch.setenv("ORCA_STORE", str(store_of(finished)))
    assert call("runs").stdout.splitlines()[1].startswith(finished.record["run"])
    assert run_path(Store(store_of(finished)), "tiny") == finished.path


def test_clean_frees_what_stopped_work_has_left(tmp_path: Path) -> None:
    assert call("clean", "--store", tmp_path).stdout == "0 bytes freed\n"
    (left := tmp_path / ".work" / "finetune-0123" / "checkpoint").mkdir(parents=True)
    (left / "state").write_bytes(b"0" * 5000)
    assert json.loads(call("clean", "--json", "--store", tmp_path).stdout) == {"freed_bytes": 5000}
    assert not any((tmp_path / ".work").iterdir())
