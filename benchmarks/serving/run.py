"""Rounds of runs that alternate between servers, kept as they come."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.bodies import CASES, Body, Case, body_of, probabilities
from benchmarks.serving.load import MARK, named, pids, press, usage
from benchmarks.serving.rivals import OURS, OUT, Rival, install, launch, versions

# Raised by hand when what is measured changes: everything is then measured again.
VERSION = 3
RESULTS = OUT / f"results-v{VERSION}.jsonl"
START_S, SETTLE_S, WARM_S, RUN_S, REST_S = 240.0, 30.0, 1.0, 3.0, 0.2
LASTING_S = 8.0
"""Warm-up of undrift: more is watched of a burst than of what lasts."""
ROUNDS = 5
Run = dict[str, Any]
_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(slots=True)
class Server:
    """A server that runs.

    Attributes:
        rival: Whose.
        port: Where it listens.
        mark: What its processes carry in their environment.
        process: The one that was started.
        cases: Names of those that it answers as it should.
    """

    rival: Rival
    port: int
    mark: str
    process: subprocess.Popen[bytes]
    cases: set[str] = field(default_factory=set)

    def url(self, rival: Rival, case: Case) -> str:
        """Return where a case is asked."""
        return f"http://127.0.0.1:{self.port}{rival.path.replace('MODEL', case.model)}"

    def end(self) -> None:
        """End all its processes."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for pid in pids(self.mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def kept(path: Path = RESULTS) -> list[Run]:
    """Return the runs so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def keep(run: Run, path: Path = RESULTS) -> None:
    """Append one run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(run) + "\n")


def missing(
    runs: Sequence[Run], cases: Sequence[Case], rivals: Sequence[Rival], rounds: int
) -> list[tuple[int, Case, Rival]]:
    """Return what is still to be measured: all of a round before the next one, in a drawn order."""
    done = {(run["round"], run["case"], run["rival"]) for run in runs}
    wanted = []
    for number in range(rounds):
        for case in cases:
            order = list(rivals)
            random.Random(f"{number} {case.name}").shuffle(order)
            wanted += [(number, case, rival) for rival in order]
    return [w for w in wanted if (w[0], w[1].name, w[2].name) not in done]


def measure_all(rivals: Sequence[Rival], models: Sequence[str], minutes: float) -> None:
    """Measure what is missing, model by model, until the time is over."""
    deadline = time.monotonic() + 60 * minutes
    for rival in rivals:
        why = install(rival)
        if why:
            keep({"round": -1, "case": "", "rival": rival.name, "why": why})
        elif rival.packages:
            keep({"round": -1, "case": "", "rival": rival.name, "version": versions(rival)})
    able = [rival for rival in rivals if not install(rival)]
    for model in models:
        cases = [case for case in CASES if case.model == model]
        todo = missing(kept(), cases, able, ROUNDS)
        if not todo or time.monotonic() > deadline:
            continue
        with _running(model, [r for r in able if any(r is t[2] for t in todo)], cases) as servers:
            for number, case, rival in missing(kept(), cases, able, ROUNDS):
                if time.monotonic() > deadline:
                    break
                if rival.server in servers and case.name in servers[rival.server].cases:
                    _measure(servers[rival.server], number, case, rival)


@contextmanager
def _running(
    model: str, rivals: Sequence[Rival], cases: Sequence[Case]
) -> Iterator[dict[str, Server]]:
    """Run the servers of one model side by side; those that do not answer are told and left out."""
    servers: dict[str, Server] = {}
    try:
        for rival in rivals:
            if rival.server in servers:
                continue
            port, mark = _free_port(), secrets.token_hex(8)
            process = launch(rival, model, port, {MARK: mark})
            servers[rival.server] = Server(rival, port, mark, process)
        for name, server in list(servers.items()):
            deadline = time.monotonic() + START_S
            for case in cases:
                why = _wait(server, case, deadline)
                print(f"{name}, {case.name}: {why or 'answers'}", flush=True)
                if why:
                    keep({"round": -1, "case": case.name, "rival": name, "why": why})
                else:
                    server.cases.add(case.name)
            if not server.cases:
                servers.pop(name).end()
        for name, server in servers.items():  # constant rows are a warning, which starts workers
            for case in cases if name == OURS.name else ():
                press(server.url(OURS, case), body_of(case, OURS.words), 1, RUN_S)
        time.sleep(SETTLE_S)  # some import on after they answer
        yield servers
    finally:
        for server in servers.values():
            server.end()


def _wait(server: Server, case: Case, deadline: float) -> str:
    """Return why a server does not answer a case as it should; nothing if it does."""
    while True:
        if server.process.poll() is not None:
            return f"it ended with {server.process.returncode}"
        try:
            found = probabilities(*_ask(server, case), case)
        except urllib.error.HTTPError as error:
            told = error.read().decode(errors="replace").strip().splitlines() or [""]
            why = f"it answers {error.code}: {told[-1][:200]}"
            if server.cases:  # it is up: this one it does not take
                return why
        except OSError as error:
            why = str(error)
        else:
            close = np.allclose(found, _expected(case), atol=1e-5)
            return "" if close else "it answers something else"
        if time.monotonic() > deadline:
            return why
        time.sleep(0.5)


def _expected(case: Case) -> np.ndarray:
    """Return the probabilities that are right."""
    import torch

    from benchmarks.serving.bodies import rows_of
    from benchmarks.serving.servers.net import build

    with torch.inference_mode():
        logits = build(case.model)(torch.from_numpy(rows_of(case)))
    return np.asarray(torch.softmax(logits, 1))


def _ask(server: Server, case: Case) -> tuple[bytes, dict[str, str]]:
    body = body_of(case, server.rival.words)
    url = server.url(server.rival, case)
    request = urllib.request.Request(url, body.content, body.headers)
    with _HTTP.open(request, timeout=30) as answer:
        return answer.read(), {name.lower(): value for name, value in answer.headers.items()}


def _measure(server: Server, number: int, case: Case, rival: Rival) -> None:
    body, url = body_of(case, rival.words), server.url(rival, case)
    stopped = named(server.mark, "Monitor") if rival.stopped else []
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        press(url, body, case.connections, WARM_S if rival.packages else LASTING_S)
        before = usage(server.mark)
        told = press(url, body, case.connections, RUN_S)
        after = usage(server.mark)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    if rival.stopped and not stopped:
        raise RuntimeError("there is no process of a monitor to stop")
    taken = after.since(before)
    keep(
        {
            "round": number,
            "case": case.name,
            "rival": rival.name,
            "at": time.time(),
            "rate": told["requests"] / told["seconds"],
            "cpu_s": sum(taken),
            "busiest_s": taken[0],
            "memory": after.memory,
            "processes": len(taken),
            "load": os.getloadavg()[0],
            **told,
        }
    )
    print(f"round {number}, {case.name}, {rival.name}: {told}", flush=True)
    time.sleep(REST_S * (4 if stopped else 1))


def _free_port() -> int:
    """Return a port that is free, and so are, most likely, the two after it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


__all__ = ["Body", "Server", "keep", "kept", "measure_all", "missing"]
