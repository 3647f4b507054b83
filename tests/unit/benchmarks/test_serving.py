"""The benchmark of serving: what is asked, what is still to be measured, and its figures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.bodies import CASES, LENGTH_HEADER, body_of, probabilities, rows_of
from benchmarks.serving.page import page, show
from benchmarks.serving.rivals import OFF, OTHERS, OURS
from benchmarks.serving.run import keep, kept, missing
from benchmarks.serving.summary import median, of, per_cpu, rate, ratio
from undrift.serve.protocol import ModelSpec, encode_infer, parse_infer
from undrift.serve.settings import ServeSettings

FIGURES = {"seconds": 4.0, "refused": 0, "lost": 0, "p50_ms": 1.0, "p99_ms": 2.0}
FIGURES |= {"memory": 10**8, "cpu_s": 2.0, "busiest_s": 1.0}


def a_run(number: int, rival: str, requests: int, case: str = "small-32", **more: float) -> dict:
    known = {"round": number, "case": case, "rival": rival, "requests": requests}
    return {**FIGURES, **known, **more}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_word_asks_for_the_same_rows(case) -> None:
    x = rows_of(case)
    plain = json.loads(body_of(case, "plain").content)["x"]
    np.testing.assert_allclose(np.array(plain, np.float32), x, rtol=1e-6)
    body = body_of(case, "oip")
    spec = ModelSpec(case.model, x.shape[1:], n_classes=3)
    kind, length = body.headers["Content-Type"], body.headers.get(LENGTH_HEADER)
    asked = parse_infer(body.content, kind, spec, ServeSettings(), length)
    np.testing.assert_allclose(asked.x, x, rtol=1e-6)
    assert (length is not None) == case.binary == bool(asked.binary)


@pytest.mark.parametrize("case", CASES[2:4], ids=lambda case: case.name)
def test_probabilities_are_read_out_of_every_word(case) -> None:
    body = body_of(case, "oip")
    spec = ModelSpec(case.model, (256,), n_classes=3)
    length = body.headers.get(LENGTH_HEADER)
    asked = parse_infer(body.content, body.headers["Content-Type"], spec, ServeSettings(), length)
    said = np.random.default_rng(0).dirichlet(np.ones(3), case.rows).astype(np.float32)
    content, size = encode_infer(asked, said, spec, 1, "hash")
    headers = {LENGTH_HEADER.lower(): str(size)} if asked.binary else {}
    np.testing.assert_array_equal(probabilities(content, headers, case), said)
    plain = json.dumps({"probabilities": said.tolist()}).encode()
    np.testing.assert_array_equal(probabilities(plain, {}, case), said)


def test_a_round_is_finished_before_the_next_and_kept_runs_are_not_measured_again(
    tmp_path: Path,
) -> None:
    cases, rivals, file = CASES[:2], (OURS, OFF), tmp_path / "folder" / "results.jsonl"
    todo = missing(kept(file), cases, rivals, rounds=3)
    assert len(todo) == 12
    assert [number for number, *_ in todo] == [0] * 4 + [1] * 4 + [2] * 4
    number, case, rival = todo[0]
    keep(a_run(number, rival.name, 1, case.name), file)
    assert missing(kept(file), cases, rivals, rounds=3) == todo[1:]


def test_servers_alternate_in_an_order_that_differs_between_rounds() -> None:
    todo = missing([], CASES[:1], (OURS, *OTHERS), rounds=6)
    orders = {tuple(r.name for number, _, r in todo if number == n) for n in range(6)}
    assert len(orders) > 1


def test_ratios_are_taken_within_rounds() -> None:
    runs = [a_run(n, "a", 100 * k) for n, k in enumerate((1, 5, 3))]
    runs += [a_run(n, "b", 50 * k) for n, k in enumerate((1, 5, 2))] + [a_run(9, "b", 1)]
    found = ratio(runs, ("small-32", "a"), ("small-32", "b"), rate)
    assert found is not None
    assert (found.median, found.least, found.most, found.rounds) == (2.0, 2.0, 3.0, 3)
    assert ratio(runs, ("small-32", "a"), ("small-1", "b"), rate) is None


def test_requests_that_were_refused_do_not_count() -> None:
    run = a_run(0, "a", 100, refused=60)
    assert (rate(run), per_cpu(run)) == (10.0, 20.0)
    assert per_cpu({**run, "cpu_s": 0.0}) == 0.0


def test_the_newest_run_of_a_round_stands_and_notes_are_no_runs() -> None:
    note = {"round": -1, "case": "small-32", "rival": "a", "why": "no"}
    runs = [note, a_run(0, "a", 1), a_run(0, "a", 2)]
    assert [run["requests"] for run in of(runs, "small-32", "a").values()] == [2]
    assert math.isnan(median([], rate))


def test_figures_have_three_digits_that_count() -> None:
    values = (1234.5, 12.345, 0.98765, 0.0012345, 0.0, float("nan"))
    assert [show(value) for value in values] == ["1,234", "12.3", "0.988", "0.00123", "0", "-"]


def test_the_page_tells_figures_ratios_and_who_was_not_there() -> None:
    runs = [a_run(n, OURS.name, 1200 + n) for n in range(5)]
    runs += [a_run(n, "Ray Serve", 100 + n) for n in range(5)]
    runs.append({"round": -1, "case": "", "rival": "MLServer", "why": "no such wheel"})
    runs.append({"round": -1, "case": "", "rival": "Ray Serve", "version": "ray 2.60.0"})
    text = page(runs)
    assert "| Ray Serve | small-32 | 12 | 11.8 | 11.6 to 12.0, 5 |" in text
    assert "| undrift | 300 | 1.00 | 2.00 | 601 | 1,202 | 0.500 | 100 | 0 | 5 |" in text
    assert "- MLServer: not measured: no such wheel" in text
    assert "- Ray Serve: ray 2.60.0" in text
    assert "<!--" not in text
