from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

import undrift.cli.verbs
from tests.helpers import views
from tests.helpers.support import ModelServer, eventually
from undrift.cli.verbs import app
from undrift.config import load_config
from undrift.errors import PlatformError
from undrift.host.process import ProcessFile
from undrift.model.artifacts import load_inputs

STATUS = views.status(
    live_version=2,
    previous_version=1,
    replicas={"r1": 2},
    counts={"drift": 1},
    events=[views.event(1, "drift", "labels say [so]", run_id="r-1")],
    failures={"controller": "", "monitor": "disk full"},
)
CHANGE = {"what": "feature", "name": "price", "measure": "hellinger", "effect": 0.31}
NOTE = "600 rows are few"
MOVED = views.signal(
    level="warning",
    statistic=4.2,
    change_row=812,
    since_row=845,
    changes=[{**CHANGE, "before": 0.1, "now": 0.7}],
)
NORTH = {
    "name": "site=north",
    "level": "warning",
    "rows": 400,
    "labelled": 390,
    "accuracy_before": 0.91,
    "accuracy_now": 0.73,
    "change_row": None,
}
DRIFT = views.drift(
    level="warning",
    kind="covariate",
    reason="inputs moved",
    version=2,
    rows=1000,
    labelled=900,
    signals=[MOVED],
)
DRIFT["summary"] |= {
    "segments": [NORTH],
    "calibration": {"input": {"rows": 600, "correlation_time": 1.0, "notes": [NOTE]}},
}
ARM = {"arm": "rows 200-699, class 1", "draws": 4, "probability": 0.2, "reward": 0.6}
ESTIMATE = {"value": 0.41, "standard_error": 0.02, "effective": 80.0, "warning": "few choices"}
AUDIT = {
    "version": 2,
    "parent": 1,
    "run_id": "run-1",
    "plan": {"method": "bandit", "steps": 600, "budget": "", "kind": "both"},
    "accepted": True,
    "reason": "accuracy rose",
    "training": {"start_version": 1, "steps": 600},
    "compute": {"flops": 2.5e9, "seconds": {"train": 1.5}},
    "recent": {"accuracy_old": 0.5, "accuracy_new": 0.9},
    "older": {"accuracy_old": 0.97, "accuracy_new": 0.93},
    "bandits": {
        "sample": {
            "arms": [{**ARM, "first": 0, "last": 9}, {"arm": "rows 0-199, class 0", "draws": 0}],
            "uniform_instead": {
                "choices": 4,
                "reward": 0.5,
                **dict.fromkeys(("ips", "snips", "dr"), ESTIMATE),
            },
        },
        "block": {"arms": [], "uniform_instead": None},
    },
}
VERSION = {"version": 1, "parent": None, "created_at": 1.7e9, "run_id": "", "hash": "0123456789abc"}
METRICS = {"accuracy": 0.5, "gate": {}}
VERSIONS = [{**VERSION, "metrics": METRICS, "live": True, "plan": None, "damage": ""}]


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("starter") / "new"
    result = CliRunner().invoke(app, ["init", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def folder(starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what `init` writes, as the present folder."""
    shutil.copytree(starter, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def change(folder: Path, section: str, **values: Any) -> None:
    path = folder / "undrift.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    data[section] |= values
    path.write_text(yaml.safe_dump(data), encoding="utf-8")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_init_writes_a_model_that_fits_its_configuration(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(undrift.cli.verbs.STARTER)
    inputs = load_inputs(*load_config().artifacts)
    assert len(inputs.x) == len(inputs.y) == 1000


def test_init_never_overwrites_unless_forced(folder: Path) -> None:
    (folder / "model.py").write_text("mine", encoding="utf-8")
    result = run("init")
    assert result.exit_code == 1
    assert "model.py" in result.stderr
    assert (folder / "model.py").read_text(encoding="utf-8") == "mine"


def test_forced_init_overwrites_every_file(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = tmp_path_factory.mktemp("templates")
    program = "for name in ('weights.safetensors', 'reference.npz'): open(name, 'w').write('new')"
    (templates / "model.py").write_text(program, encoding="utf-8")
    (templates / "undrift.yaml").write_text("new", encoding="utf-8")
    monkeypatch.setattr(undrift.cli.verbs, "TEMPLATES", templates)
    result = run("init", "--force", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["files"] == list(undrift.cli.verbs.STARTER)
    text = {name: (folder / name).read_text(encoding="utf-8") for name in undrift.cli.verbs.STARTER}
    assert text.pop("model.py") == program
    assert set(text.values()) == {"new"}


def test_init_whose_model_fails_writes_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = tmp_path_factory.mktemp("templates")
    (templates / "model.py").write_text("raise SystemExit('no luck')", encoding="utf-8")
    (templates / "undrift.yaml").touch()
    monkeypatch.setattr(undrift.cli.verbs, "TEMPLATES", templates)
    result = run("init", str(tmp_path))
    assert result.exit_code == 1
    assert "the starter model failed: no luck" in result.stderr
    assert not list(tmp_path.iterdir())


def test_init_where_no_folder_can_be_is_one_line(folder: Path) -> None:
    result = run("init", "model.py/below")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


def test_config_check_reads_what_the_configuration_points_at(folder: Path) -> None:
    result = run("config", "check", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)["models"]["spirals"]
    assert (found["reference_rows"], found["batch_rows"]) == (1000, 64)
    assert found["batch_ms"] > 0
    assert found["batch_bytes"] > 0


def test_config_check_reports_every_problem_on_its_own_line(folder: Path) -> None:
    change(folder, "serve", port=0, replicas=0)
    result = run("config", "check")
    assert result.exit_code == 1
    assert [line[:33] for line in result.stderr.splitlines()] == [
        "error: undrift.yaml: serve.port: ",
        "error: undrift.yaml: serve.replic",
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"factory": "gone:build"}, "cannot import 'gone'"),
        ({"factory": "torch.nn:Linear"}, "failed: TypeError"),
        ({"factory": "torch.nn:Identity"}, "weights do not fit Identity"),
        ({"weights": "model.py"}, "is not a whole safetensors file"),
        ({"input_shape": [3]}, "x is float32 (1000, 2), expected numbers (n, 3)"),
        ({"classes": 4}, "answers with 3 logits; model.classes says 4"),
        ({"embedding": "9"}, "the head '9' is not an nn.Linear layer"),
    ],
)
def test_config_check_finds_a_model_that_does_not_fit(
    folder: Path, values: dict[str, Any], expected: str
) -> None:
    change(folder, "model", **values)
    result = run("config", "check")
    assert result.exit_code == 1
    assert expected in result.stderr


def test_config_schema_is_json() -> None:
    assert json.loads(run("config", "schema").stdout)["title"] == "undrift"


def test_verbs_without_a_platform_name_the_command_that_starts_one(folder: Path) -> None:
    change(folder, "serve", port=1)
    for verb in (["status"], ["drift"], ["versions"], ["retrain"], ["promote", "1"], ["pause"]):
        result = run(*verb, "--json")
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith("error: nothing answers at http://127.0.0.1:1; start it")


def test_views_show_what_the_platform_says(folder: Path) -> None:
    with ModelServer() as server:
        change(folder, "serve", port=server.port)
        answers = {"status": STATUS, "drift": DRIFT, "versions": VERSIONS}
        server.replies = {k: (200, json.dumps(v).encode()) for k, v in answers.items()}
        for verb, answer in answers.items():
            assert json.loads(run(verb, "--json").stdout) == json.loads(json.dumps(answer))
        assert "labels say [so]" in (text := run("status").stdout)
        assert "disk full" in text
        assert "inputs moved" in (text := run("drift").stdout)
        assert "812" in text
        assert "845" in text
        assert "feature price" in text
        assert "hellinger 0.31" in text
        assert f"input: {NOTE}" in text
        assert "site=north" in text
        assert "0.73" in text
        assert "live" in (text := run("versions").stdout)
        assert "accuracy 0.5" in text


def test_audit_shows_what_a_version_cost_and_what_was_drawn(folder: Path) -> None:
    with ModelServer() as server:
        change(folder, "serve", port=server.port)
        server.replies = {"audit": (200, json.dumps(AUDIT).encode())}
        assert json.loads(run("audit", "2", "--json").stdout) == AUDIT
        text = run("audit", "2").stdout
    assert {path for _, path, *_ in server.seen} == {"/v2/models/spirals/versions/2/audit"}
    for part in ("600 steps", "2.5e+09 FLOP", "accuracy_old 0.97, accuracy_new 0.93"):
        assert part in text
    assert "rows 0-199, class 0" in text
    assert "if drawn uniformly: mean reward 0.410 ± 0.020 instead of 0.500" in text
    assert "few choices" in text


TRAINING = {"step": 30, "share": 0.25, "loss": 0.5, "flops": 2e9, "seconds": 1.5, "eta_s": 4.5}
RUNNING = {
    "run_id": "run-1",
    "trigger": "operator",
    "started": 1.7e9,
    "version": None,
    "training": None,
}


def ended(kind: str, phase: str = "healthy") -> dict[str, Any]:
    told = views.event(2, kind, "version 3: why", run_id="run-1")
    return {**STATUS, "phase": phase, "run": None, "events": [*STATUS["events"], told]}


def follow_states(server: ModelServer, *states: dict[str, Any]) -> None:
    """Answer one status after the other, and the order to retrain with the first."""
    answers = [json.dumps(state).encode() for state in states]
    server.replies = {"retrain": (200, answers[0])}
    server.sequences = {"status": [(200, answer) for answer in answers]}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("states", "outcome", "code"),
    [
        ([ended("failed")], "failed", 1),
        ([{**ended("promoted"), "phase": "probation", "run": RUNNING}], "promoted", 0),
        ([{**STATUS, "phase": "paused", "run": None}], "cancelled", 1),
    ],
)
def test_retrain_waits_for_what_comes_of_it(
    folder: Path, states: list[dict[str, Any]], outcome: str, code: int
) -> None:
    begun = {**STATUS, "phase": "retraining", "run": RUNNING}
    training = {**begun, "run": {**RUNNING, "training": TRAINING}}
    with ModelServer() as server:
        change(folder, "serve", port=server.port)
        follow_states(server, begun, training, *states)
        result = run("retrain", "--budget", "30s", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["outcome"], found["training"]) == (code, outcome, TRAINING)
    assert server.seen[0][2] == {"budget": "30s"}


@pytest.mark.thorough
def test_interrupt_leaves_the_run_going_and_says_how_to_look(folder: Path) -> None:
    begun = {**STATUS, "phase": "retraining", "run": RUNNING}
    command = [sys.executable, "-m", "undrift.cli", "retrain"]
    with ModelServer() as server:
        change(folder, "serve", port=server.port)
        server.replies = {v: (200, json.dumps(begun).encode()) for v in ("retrain", "status")}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
            eventually(lambda: len(server.seen), until=lambda seen: seen > 2)
            child.send_signal(signal.SIGINT)
            _, told = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "run-1 goes on; look at it with `undrift status`" in told
    assert {path.rpartition("/")[2] for _, path, *_ in server.seen} == {"retrain", "status"}


def test_verbs_carry_their_arguments_and_the_token_of_the_state_folder(folder: Path) -> None:
    runfile = ProcessFile(folder / "state")
    token = runfile.token(create=True)
    with ModelServer() as server:
        runfile.claim(server.url)
        verbs = ("retrain", "promote", "rollback", "pause", "resume")
        server.replies = {verb: (200, json.dumps(STATUS).encode()) for verb in (*verbs, "status")}
        assert run("retrain", "--method", "full", "--steps", "5", "--no-wait").exit_code == 0
        assert run("promote", "2").stdout == "healthy; version 2 is live\n"
        assert run("rollback").exit_code == 0
        assert run("pause").exit_code == 0
        assert run("resume").exit_code == 0
    assert [(path.rpartition("/")[2], body) for _, path, body, _ in server.seen] == [
        ("retrain", {"method": "full", "steps": 5}),
        ("promote", {"version": 2}),
        ("status", None),
        ("rollback", {"version": 1}),
        ("pause", {}),
        ("resume", {}),
    ]
    orders = {header for _, path, _, header in server.seen if not path.endswith("/status")}
    assert orders == {f"Bearer {token}"}


def test_wrong_usage_exits_with_2() -> None:
    assert run("promote").exit_code == 2
    assert run("promote", "2", "--weights", "new.safetensors").exit_code == 2
    assert run("fly").exit_code == 2


def test_down_says_that_nothing_runs(folder: Path) -> None:
    result = run("down", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"stopped": None}


def test_down_ends_the_recorded_process(folder: Path) -> None:
    program = (
        "import sys, time, pathlib; from undrift.host.process import ProcessFile;"
        "ProcessFile(pathlib.Path('state')).claim('http://x'); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as child:
        runfile = ProcessFile(folder / "state")
        eventually(lambda: runfile.path.exists())
        with pytest.raises(PlatformError, match=f"process {child.pid} already runs"):
            runfile.claim()
        result = run("down", "--json")
        assert child.wait(10) == -15
    assert json.loads(result.stdout) == {"stopped": child.pid}
    assert runfile.running() is None


def test_down_spares_a_later_process_of_the_same_number(folder: Path) -> None:
    record = {"pid": os.getpid(), "started": "long ago", "url": ""}
    (folder / "state").mkdir()
    (folder / "state" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert "nothing runs" in run("down").stdout
    assert not (folder / "state" / "run.json").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_damaged_run_record_counts_as_none_with_a_word(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "run.json").write_text(damage, encoding="utf-8")
    assert "nothing runs" in run("down").stdout
    assert "run.json is damaged" in caplog.text


@pytest.mark.thorough
def test_detached_start_that_fails_reports_its_last_error(folder: Path) -> None:
    change(folder, "model", classes=5)
    result = run("up", "--detach")
    assert result.exit_code == 1
    assert "3 logits" in result.stderr
    assert "undrift.log" in result.stderr
    assert ProcessFile(folder / "state").running() is None
