"""Who is measured, and how each is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.torch import save_file

from benchmarks.serving.servers.net import CLASSES, SHAPES, build

OUT = Path("build/serving").absolute()
SERVERS = Path(__file__).with_name("servers")
TORCH = "torch==2.13.0"


@dataclass(frozen=True, slots=True)
class Rival:
    """One server.

    Attributes:
        name: How people are told; results are kept under it.
        words: The words of its requests, see `bodies.body_of`.
        path: Where it answers; ``MODEL`` stands for the model.
        packages: What pip installs into its environment; none for undrift, which has ours.
        command: Arguments of its Python; ``PORT`` stands for the port.
        untapped: Of undrift: nothing is handed to the monitor.
        stopped: Of undrift: the monitor's process is stopped while it is measured.
        tree: Of undrift: folder that is put before ``PYTHONPATH``.
    """

    name: str
    words: str
    path: str
    packages: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    untapped: bool = False
    stopped: bool = False
    tree: str = ""

    @property
    def server(self) -> str:
        """Name of the running server; two that differ in what is done to it share one."""
        return self.name.partition(", monitor stopped")[0]


_MLSERVER = ("-c", "from mlserver.cli import main; main()", "start", ".")
OURS = Rival("undrift", "oip", "/v2/models/MODEL/infer", command=("-m", "undrift.cli", "up"))
OFF = replace(OURS, name="undrift, monitoring off", untapped=True)
STOPPED = replace(OURS, name="undrift, monitor stopped", stopped=True)
OTHERS = (
    Rival(
        "FastAPI + uvicorn",
        "oip",
        OURS.path,
        ("fastapi", "uvicorn[standard]", "orjson", "numpy"),
        ("-m", "uvicorn", "fastapi_app:app", "--host=127.0.0.1", "--port=PORT", "--no-access-log"),
    ),
    Rival("Ray Serve", "plain", "/", ("ray[serve]==2.60.0", "numpy"), ("ray_app.py",)),
    Rival("LitServe", "plain", "/predict", ("litserve", "numpy"), ("litserve_app.py",)),
    Rival(
        "BentoML",
        "plain",
        "/predict",
        ("bentoml", "numpy"),
        ("-m", "bentoml", "serve", "bentoml_app:Model", "--host=127.0.0.1", "--port=PORT"),
    ),
    Rival(
        "KServe",
        "oip",
        OURS.path,
        ("kserve", "numpy"),
        ("kserve_app.py", "--http_port=PORT", "--enable_grpc=False", "--enable_docs_url=False"),
    ),
    Rival("MLServer", "oip-json", OURS.path, ("mlserver", "uvloop<0.22", "numpy"), _MLSERVER),
)
RIVALS = (OURS, OFF, STOPPED, *OTHERS)


def before(tree: str) -> Rival:
    """Return undrift as another checkout has it; ``tree`` goes before ``PYTHONPATH``."""
    return replace(OURS, name="undrift, before", tree=tree)


def python_of(rival: Rival) -> Path:
    """Return the interpreter of a rival's environment."""
    return _venv(rival.packages[0]) / "bin" / "python" if rival.packages else Path(sys.executable)


def install(rival: Rival) -> str:
    """Make a rival's environment unless it is there; return why it cannot be had, or nothing."""
    if not rival.packages:
        return ""
    return _install("torch", (TORCH,)) or _install(rival.packages[0], rival.packages)


def versions(rival: Rival) -> str:
    """Return name and version of a rival's first package."""
    if not rival.packages:
        return ""
    name = _plain(rival.packages[0])
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    command = [python_of(rival), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"{name} {done.stdout.strip()}"


def launch(rival: Rival, model: str, port: int, mark: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a rival's server, its output in a file; one thread for the model, as all have."""
    folder = OUT / "run" / f"{rival.server}-{model}".replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MODEL": model, "PORT": str(port), **mark}
    cwd = SERVERS
    if rival.packages:
        env.pop("PYTHONPATH", None)
        env |= {"RAY_ADDRESS": "local", "PYTHONPATH": str(SERVERS), "BENTOML_DO_NOT_TRACK": "True"}
        if rival.name == "MLServer":
            cwd = _mlserver(folder, model, port)
    else:
        paths = (rival.tree, str(SERVERS), os.environ.get("PYTHONPATH", ""))
        env["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        cwd = _project(folder, model, port, untapped=rival.untapped, env=env)
    command = [part.replace("PORT", str(port)) for part in rival.command]
    with (folder / "output.txt").open("wb") as output:
        return subprocess.Popen(
            [python_of(rival), *command],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _project(folder: Path, model: str, port: int, *, untapped: bool, env: dict[str, str]) -> Path:
    """Make a project as `undrift init` does, with the benchmark's model."""
    project = folder / f"project-{port}"
    command = [sys.executable, "-m", "undrift.cli", "init", str(project)]
    subprocess.run(command, env=env, check=True, capture_output=True)
    file = project / "undrift.yaml"
    given: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    shape = list(SHAPES[model])
    given["model"] |= {"name": model, "factory": f"net:{model}", "input_shape": shape}
    given["model"]["classes"] = CLASSES
    given["serve"] |= {"port": port}
    if untapped:
        given["serve"]["tap"] = {"max_rows": 0}
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    save_file(build(model).state_dict(), project / "weights.safetensors")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1000, *shape)).astype(np.float32)
    np.savez(project / "reference.npz", x=x, y=rng.integers(0, CLASSES, len(x)))
    return project


def _mlserver(folder: Path, model: str, port: int) -> Path:
    settings = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    (folder / "settings.json").write_text(json.dumps({**settings, "host": "127.0.0.1"}))
    given = {"name": model, "implementation": "mlserver_app.Own"}
    (folder / "model-settings.json").write_text(json.dumps(given))
    return folder


def _plain(package: str) -> str:
    return package.partition("[")[0].partition("=")[0]


def _venv(package: str) -> Path:
    return OUT / "venvs" / _plain(package)


def _install(name: str, packages: tuple[str, ...]) -> str:
    folder = _venv(name)
    if (folder / ".installed").exists():
        return ""
    if (folder / ".failed").exists():
        return (folder / ".failed").read_text(encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    if name != "torch":  # one installation for all; each has its own of the rest
        below = next((_venv("torch") / "lib").glob("python*/site-packages"))
        (site / "torch.pth").write_text(f"{below}\n", encoding="utf-8")
    command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    outcome = "" if done.returncode == 0 else "; ".join(told) or "pip failed"
    (folder / (".failed" if outcome else ".installed")).write_text(outcome, encoding="utf-8")
    return outcome
