"""What Prefect's pages get to show: read back from the server, and as plain text with known answers."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

from flows.pages import artifacts
from flows.pages.artifacts import Shown, explain, merged, percent, show_align, show_result, words
from flows.pages.markdown import align_page, artifact_key, block, metric_row, plain, result_page, title
from orca.errors import InputError, TrainingError
from tests.records import recording

LABELS = ["fsdd", "minilm", "full", "s0"]
EVIL = 'a|b <img src=x onerror=alert(1)> ![i](http://x.y/z.png) **c** `d` _e_ \n# f [g](javascript:1) &lt; "\\'
PICTURE = r"!\[(.*)\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)"


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with recording({PREFECT_LOCAL_STORAGE_PATH: tmp_path_factory.mktemp("results")}):
        yield


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def within(function: Callable[[], Any]) -> Any:
    """Runs the function as a task of a flow."""

    @flow(name="test")
    def outer() -> Any:
        return task(function, name="stage", persist_result=False)()  # type: ignore[call-overload]

    return outer()


def read(key: str) -> list[Artifact]:
    """The artifacts under a key, oldest first."""
    with get_client(sync_client=True) as client:
        chosen = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        found = client.read_artifacts(artifact_filter=chosen)
    return sorted(found, key=lambda artifact: artifact.created)  # type: ignore[arg-type, return-value]


def make_run(folder: Path, value: float = 0.25, epochs: int = 3, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """A finished run's folder, without predictions, and its record."""
    name = changes.get("run", "fsdd-full-s0-1f3a9c2b")
    path = folder / "runs" / name
    path.mkdir(parents=True)
    metric = {"name": "error", "value": value, "higher_is_better": False, "ci95": [0.2, 0.3], "n": 300}
    stages = [("embed", True, 0.01), ("align", True, 0.01), ("finetune", False, 61.04), ("evaluate", False, 1.7)]
    record = {
        "run": name, "path": str(path), "task": "fsdd", "body": "minilm", "align": "otdd", "method": "full", "seed": 0,
        "metric": metric, "validation": {"value": 0.125, "epoch": 2}, "shift": {"speaker": 0.5},
        "baselines": {"majority": 0.9, "linear": 0.375}, "parameters": {"total": 10_900_000, "trained": 9_216},
        "stages": [{"name": n, "cached": c, "seconds": s, "path": ""} for n, c, s in stages],
        "created": "2026-01-02T03:04:05+00:00", "notes": [], **changes,
    }  # fmt: skip
    shift = {key: {**metric, "value": v, "ci95": [0.4, 0.6]} for key, v in record["shift"].items()}
    baselines = {"majority": {"test": 0.9}, "linear": {"test": 0.375, **dict.fromkeys(shift, 0.75)}}
    (path / "run.json").write_text(json.dumps(record))
    (path / "metrics.json").write_text(json.dumps({"test": metric, "shift": shift, "baselines": baselines}))
    lines = [
        {"stage": "finetune", "epoch": i + 1, "train_loss": 1 / (i + 1), "val_metric": 0.5 / (i + 1)}
        for i in range(epochs)
    ]
    (path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path, record


def make_alignment(folder: Path, kept: str = "epoch 10", epochs: int = 20, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    report = {"kept": kept, "probe_unaligned": 0.5, "probe_kept": 0.25, **changes}
    lines = [
        {"epoch": i, "objective": 100 / i, "probe": 0.5 / i if i % 10 == 0 else None} for i in range(1, epochs + 1)
    ]
    (folder / "report.json").write_text(json.dumps({"objective": "otdd", "epochs": epochs, **report}))
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, report]))
    return folder


def pictures(page: str) -> list[tuple[str, str]]:
    """Description and SVG of each picture."""
    return [(alt, base64.b64decode(code).decode()) for alt, code in re.findall(PICTURE, page)]


def cells(page: str) -> list[list[str]]:
    """The rows of all tables, by Markdown's rule that a bar ends a cell unless a backslash stands before it."""
    rows = [line[1:-1] for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows]


def step(epoch: int, at: int, **more: Any) -> dict[str, Any]:
    return {"stage": "finetune", "epochs": 4, "epoch": epoch, "step": at, "steps": 10, "train_loss": 0.5, **more}


def epoch_end(epoch: int, **more: Any) -> dict[str, Any]:
    return {"stage": "finetune", "epochs": 4, "epoch": epoch, "train_loss": 0.25, "val_metric": 0.125, **more}


# --- progress


def test_a_stage_has_one_progress_artifact_that_is_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, labels, seen = Clock(), ["updated", *LABELS[1:]], []

    def look() -> None:
        seen.extend((a.data, a.description) for a in read("updated-minilm-full-progress-finetune")[-1:])

    def stage() -> None:
        shown = Shown("finetune", labels, clock=clock)
        for seconds, facts in [
            (0.0, {"stage": "finetune"}),
            (0.1, step(1, 1)),
            (1.2, step(1, 5, left=80.4)),
            (1.5, epoch_end(1, left=60.0)),  # too early: held back
            (2.5, step(2, 5, left=math.nan)),  # its validation is not lost
            (2.6, epoch_end(4, val_metric=math.nan, left=math.inf)),
            (2.7, {"stage": "finetune", "done": 12.34, "cached": False}),  # the last is never held back
        ]:
            clock.now = seconds
            shown(facts)
            look()

    within(stage)
    (made,) = read("updated-minilm-full-progress-finetune")
    assert made.type == "progress"
    begun = (2.5, "seed 0: epoch 1/4, step 1/10, loss 0.5")
    first = (12.5, "seed 0: epoch 1/4, step 5/10, loss 0.5, 1:20 left")
    second = (37.5, "seed 0: epoch 2/4, step 5/10, loss 0.5, validation 0.125")
    done = (100.0, "seed 0: done in 12.3 s, epoch 4/4, loss 0.25, validation -")
    assert seen == [begun, first, first, second, second, done]


def test_a_stage_that_was_in_the_store_has_no_progress() -> None:
    def stage() -> None:
        with Shown("finetune", ["stored", *LABELS[1:]]) as shown:
            shown({"stage": "finetune"})
            shown({"stage": "finetune", "done": 0.1, "cached": True})

    within(stage)
    assert read("stored-minilm-full-progress-finetune") == []


def test_what_was_held_back_is_shown_when_a_stage_fails() -> None:
    clock = Clock()

    def stage() -> None:
        with Shown("align", ["fails", *LABELS[1:]], clock=clock) as shown:
            shown({"stage": "align", "epochs": 60, "epoch": 1, "objective": 9.0, "probe": 0.5})
            shown({"stage": "align", "epochs": 60, "epoch": 2, "objective": 8.0, "probe": None})
            raise TrainingError("the loss is gone")

    with pytest.raises(TrainingError):
        within(stage)
    (made,) = read("fails-minilm-full-progress-align")
    assert (made.data, made.description) == (3.3, "seed 0: epoch 2/60, distance 8, probe 0.5")


def test_a_stage_that_is_tried_again_goes_on_with_its_artifact_and_another_run_has_its_own() -> None:
    labels = ["again", *LABELS[1:]]

    @task
    def stage(done: int) -> None:
        Shown("finetune", labels)(epoch_end(done))

    @flow
    def twice() -> None:
        stage(1)
        stage(2)

    twice()
    twice()
    found = read("again-minilm-full-progress-finetune")
    assert [made.data for made in found] == [50.0, 50.0]
    assert len({made.flow_run_id for made in found}) == 2


def test_the_log_has_a_line_for_each_epoch(caplog: pytest.LogCaptureFixture) -> None:
    def stage() -> None:
        shown = Shown("finetune", ["logged", *LABELS[1:]], clock=Clock())
        for facts in (step(1, 5), epoch_end(1), epoch_end(2), {"stage": "finetune", "done": 0.1, "cached": True}):
            shown(facts)

    with caplog.at_level("INFO", logger="prefect.task_runs"):
        within(stage)
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("finetune: ")]
    assert lines == [
        "finetune: epoch 1/4, loss 0.25, validation 0.125",
        "finetune: epoch 2/4, loss 0.25, validation 0.125",
        "finetune: in the store already",
    ]


class Broken(httpx.BaseTransport):
    """A server that takes its time and gives no answer."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds, self.asked = clock, seconds, []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(self.clock.now)
        self.clock.now += self.seconds
        raise httpx.ReadTimeout("no answer", request=request)


def test_a_server_that_is_away_costs_a_twentieth_of_the_time_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    away = Broken(clock, seconds=2)

    def client(httpx_settings: dict[str, Any], *, sync_client: bool) -> Any:
        return get_client(httpx_settings={**httpx_settings, "transport": away}, sync_client=True)  # type: ignore[call-overload]

    def stage() -> str:
        monkeypatch.setattr(artifacts, "get_client", client)
        with Shown("finetune", ["away", *LABELS[1:]], clock=clock) as shown:
            for _ in range(100):
                clock.now += 1
                shown(epoch_end(1))
            shown({"stage": "finetune", "done": 1.0})
        monkeypatch.undo()
        return "done"

    assert within(stage) == "done"
    assert away.asked[:3] == [1.0, 43.0, 85.0]  # two seconds of waiting, forty of work
    assert len(away.asked) <= 5
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warnings == [
        "progress is not shown for now, the work goes on: the Prefect server says ReadTimeout: no answer"
    ]
    assert read("away-minilm-full-progress-finetune") == []


def test_pages_that_the_server_does_not_take_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path, record = make_run(tmp_path)

    def stage() -> str:
        def refuses(*given: Any) -> None:
            raise httpx.ConnectError("connection refused")

        monkeypatch.setattr(artifacts, "_create", refuses)
        show_result(path, record, LABELS)
        show_align(make_alignment(tmp_path / "align"), LABELS)
        monkeypatch.undo()
        return "done"

    assert within(stage) == "done"
    told = [r.getMessage().partition(" is missing")[0] for r in caplog.records if r.levelname == "WARNING"]
    assert told == [
        "the artifact fsdd-minilm-full-result or fsdd-minilm-full-metrics",
        "the artifact fsdd-minilm-full-align",
    ]


@pytest.mark.parametrize(
    ("facts", "share"),
    [
        ({"stage": "embed"}, 0.0),
        (step(1, 0), 0.0),
        (step(3, 5), 62.5),
        (epoch_end(2), 50.0),
        (epoch_end(4), 99.0),
        ({"stage": "evaluate", "done": 1.0}, 100.0),
    ],
)
def test_how_far_a_stage_is(facts: dict[str, Any], share: float) -> None:
    assert percent(facts) == share


def test_a_validation_that_is_not_a_number_takes_the_place_of_an_earlier_one() -> None:
    facts = merged(epoch_end(1), epoch_end(2, val_metric=math.nan, left=math.inf))
    assert words(facts) == "epoch 2/4, loss 0.25, validation -"


# --- pages


def test_the_history_of_a_result_is_under_one_key_for_all_seeds(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", 0.25)
    second = make_run(tmp_path / "b", 0.125, run="fsdd-full-s1-22222222", seed=1)
    within(lambda: show_result(*first, LABELS))
    within(lambda: show_result(*second, [*LABELS[:3], "s1"]))
    within(lambda: show_result(*first, LABELS))  # once more, from the store
    results = read("fsdd-minilm-full-result")
    assert [made.description for made in results] == [
        r"seed 0: error 0.250, run fsdd-full-s0-1f3a9c2b",
        r"seed 1: error 0.125, run fsdd-full-s1-22222222",
        r"seed 0: error 0.250, run fsdd-full-s0-1f3a9c2b",
    ]
    assert results[0].data == result_page(*first, LABELS)
    tables = [json.loads(str(made.data)) for made in read("fsdd-minilm-full-metrics")]
    assert [[row["error"] for row in rows] for rows in tables] == [[0.25], [0.125, 0.25], [0.25, 0.125]]
    assert all(made.flow_run_id and made.task_run_id for made in results)


def test_a_foreign_table_under_the_key_does_no_harm(tmp_path: Path) -> None:
    def stage() -> None:
        create_table_artifact([{"other": 1}], key="foreign-minilm-full-metrics")
        show_result(*make_run(tmp_path), ["foreign", *LABELS[1:]])

    within(stage)
    rows = json.loads(str(read("foreign-minilm-full-metrics")[-1].data))
    assert [row["run"] for row in rows] == ["fsdd-full-s0-1f3a9c2b"]


def test_alignment_is_shown(tmp_path: Path) -> None:
    folder = make_alignment(tmp_path / "align")
    within(lambda: show_align(folder, LABELS))
    (made,) = read("fsdd-minilm-full-align")
    assert (made.data, made.description) == align_page(folder, LABELS)
    assert made.description == "seed 0: probe 0.500 before, 0.250 kept"


def test_the_page_of_an_alignment_says_what_was_kept(tmp_path: Path) -> None:
    page, _ = align_page(make_alignment(tmp_path / "a"), LABELS)
    assert page.startswith("### fsdd, minilm, full, seed 0: aligned with otdd\n")
    assert "Kept: the embedder of epoch 10 of 20." in page
    assert cells(page)[2:] == [["before alignment", "0.500"], ["kept", "0.250"]]
    unaligned, _ = align_page(make_alignment(tmp_path / "b", "unaligned", probe_unaligned=None), LABELS)
    assert "let no other pass" in unaligned
    assert ["before alignment", "–"] in cells(unaligned)
    trained = make_alignment(tmp_path / "d", "unaligned", validation_unaligned=0.125, validation_aligned=0.25)
    assert (
        "Kept: the embedder as it was before. Both were trained: validation is 0.250 with the aligned one, "
        "0.125 with the unaligned one." in align_page(trained, LABELS)[0]
    )
    none = tmp_path / "c"
    none.mkdir()
    (none / "report.json").write_text('{"objective": "none"}')
    assert "not aligned" in align_page(none, LABELS)[0]


def test_the_page_of_a_result_with_known_answers(tmp_path: Path) -> None:
    path, record = make_run(tmp_path, notes=["3 rows were left out"])
    page = result_page(path, record, LABELS)
    assert page.startswith("### fsdd, minilm, full, seed 0: error 0.250\n")
    assert cells(page) == [
        ["error, lower is better", "this run", "majority", "linear"],
        [":---", "---:", "---:", "---:"],
        ["test", "**0.250 (0.200 to 0.300)**", "0.900", "0.375"],
        ["shift speaker", "**0.500 (0.400 to 0.600)**", "–", "0.750"],
        ["stage", "time"],
        [":---", "---:"],
        ["embed", "in the store already"],
        ["align", "in the store already"],
        ["finetune", "61.0 s"],
        ["evaluate", "1.7 s"],
    ]
    assert "300 test samples. Validation 0.125 in epoch 2, which was kept." in page
    assert "Trained: 9,216 of 10,900,000 parameters." in page
    assert f"```\n{path}/report.html\n```" in page
    assert f"```\norca report {path.name} --store {tmp_path}\n```" in page
    assert page.endswith("**Notes**\n\n- 3 rows were left out")


def test_numbers_that_are_not_finite_are_dashes_and_nulls(tmp_path: Path) -> None:
    bad = {"name": "error", "value": math.nan, "higher_is_better": False, "ci95": [math.nan, math.inf], "n": 3}
    path, record = make_run(tmp_path, metric=bad, validation={"value": math.inf, "epoch": 1}, shift={"x": -math.inf})
    (path / "metrics.json").unlink()
    page, row = result_page(path, record, LABELS), metric_row(path, record)
    assert [row[:2] for row in cells(page)[2:4]] == [["test", "**–**"], ["shift x", "**–**"]]
    assert "Validation – in epoch 1" in page
    assert [row[key] for key in ("error", "from", "to", "validation", "shift x")] == [None] * 5
    assert "NaN" not in json.dumps(row, allow_nan=False)


def test_pictures_are_small_whole_and_described(tmp_path: Path) -> None:
    path, record = make_run(tmp_path, epochs=200)
    folder = make_alignment(tmp_path / "align", epochs=1000)
    for page, what in (
        (result_page(path, record, LABELS), "Training loss"),
        (align_page(folder, LABELS)[0], "Objective"),
    ):
        ((alt, text),) = pictures(page)
        assert alt.startswith(what)
        assert len(page) < 30_000
        root = ElementTree.fromstring(text)
        assert (root.attrib["width"], root.attrib["height"]) == ("497", "367")
        assert not re.search(r"<script|<image|href=\"(?!#)|url\((?!#)", text)
        assert "#0072b2" in text
        assert "prefers-color-scheme" not in text  # dark on white, whatever the page is


# --- names that users give


def test_plain_text_shows_a_name_and_nothing_else() -> None:
    assert plain("my_task|<b>") == r"my\_task\|\<b\>"
    assert plain("a\nb\t c\u202e\ud800") == "a b c"
    assert plain("fsdd-full, été") == "fsdd-full, été"
    assert plain("x" * 50) == "x" * 39 + "…"
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>|`*_\[\]!#&~(]", plain(EVIL, 200))


def test_no_name_breaks_a_page(tmp_path: Path) -> None:
    path, record = make_run(tmp_path, shift={EVIL: 0.5}, notes=[EVIL], align=EVIL)
    page = result_page(path, record, [EVIL, EVIL, "full", "s0"])
    assert {len(row) for row in cells(page)} == {4, 2}
    text = re.sub(PICTURE, "", page)
    assert len(re.findall(PICTURE, page)) == 1
    assert not re.search(r"(?<!\\)(<|!\[|\]\()", text)
    assert len([line for line in page.splitlines() if line.startswith("#")]) == 1
    row = metric_row(path, {**record, "run": EVIL})
    assert row["run"] == plain(EVIL, 80)
    assert all("\n" not in key for key in row)


def test_no_path_breaks_out_of_its_block(tmp_path: Path) -> None:
    assert block("/a/b") == "```\n/a/b\n```"
    assert block("/a```\n# b\ud800") == "````\n/a```?# b?\n````"
    path, record = make_run(tmp_path / "my ``` runs")
    page = result_page(path, record, LABELS)
    command = re.search(r"^````\n(orca report .*)\n````$", page, re.MULTILINE)
    assert command
    assert shlex.split(command[1])[-1] == str(tmp_path / "my ``` runs")


@pytest.mark.parametrize(
    ("labels", "key"),
    [
        (LABELS, "fsdd-minilm-full-result"),
        (["My Task_2", "Org/BERT.base", "lora", "s3"], "my-task-2-org-bert-base-lora-result"),
        (["Größe", "b", "m", "s0"], "groe-b-m-result"),
        (["數據", "b", "m", "s0"], "bd8ac7f3-b-m-result"),
    ],
)
def test_keys_are_made_of_letters_digits_and_dashes(labels: Sequence[str], key: str) -> None:
    assert artifact_key(labels, "result") == key
    assert title(labels).endswith(f"seed {labels[-1][1:]}")


def test_faults_are_told_as_users_should_read_them() -> None:
    assert explain(InputError("no such task")) == "no such task"
    assert explain(TrainingError("the training loss became nan; lower finetune.lr")).startswith("the training loss")
    assert explain(OSError(28, "No space left on device")) == "OSError: [Errno 28] No space left on device"
    assert explain(MemoryError()) == "MemoryError"
    assert explain(KeyboardInterrupt()) == "KeyboardInterrupt"


@pytest.mark.parametrize("always", [True, False])
def test_the_page_of_an_alignment_says_what_chose_the_embedder_and_that_it_diverged(tmp_path, *, always: bool) -> None:
    report = {"objective": "otdd", "epochs": 3, "kept": "epoch 3", "probe_unaligned": 0.5, "probe_kept": 0.6}
    (tmp_path / "report.json").write_text(json.dumps(report | ({"keep": "last"} if always else {"diverged": True})))
    (tmp_path / "history.jsonl").write_text('{"epoch": 3, "objective": 1.0, "probe": 0.6}\n')
    page, _ = align_page(tmp_path, LABELS)
    assert ("It is the last, as align.keep says" in page) == always
    assert ("It is the last that a ridge probe" in page) == (not always)
    assert ("It diverged" in page) == (not always)
