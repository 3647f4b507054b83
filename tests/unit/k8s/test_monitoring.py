"""Alert rules and dashboard: valid, about metrics that are exported, firing when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from tests.helpers.manifests import problems
from tests.helpers.prometheus import dashboard, panels, query, rules, tool
from tests.unit.serve.test_metrics import FACTS, QUANTILES, replica
from undrift.control.facts import TRAINING
from undrift.control.state import Phase
from undrift.control.story import Story
from undrift.k8s.manifests import compose, folder, monitoring, one

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "data" / "rules_test.yaml"
SERVED_BY_PROMETHEUS = {"namespace"}  # labels that a scrape adds


def exported() -> dict[str, dict[str, set[str]]]:
    """Return the values of every label of every sample, of a page on which all is known."""
    facts = replace(
        FACTS,
        phases=tuple(Phase),
        labels={**FACTS.labels, "lag": {"rows": QUANTILES, "seconds": QUANTILES}},
        accuracy={"window": 0.5, "reference": 0.5, "estimated": 0.5},
        retrainings=Story().retrainings,
        training=dict.fromkeys(TRAINING, 1.0),
    )
    found: dict[str, dict[str, set[str]]] = {}
    for snapshot in (replica(1).snapshot(), facts.snapshot()):
        for family in snapshot.values():
            for name, labels in family.samples:
                values = found.setdefault(name, {})
                for label, value in labels:
                    values.setdefault(label, set()).add(value)
    return found


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + [
        query(target["expr"]) for panel in panels() for target in panel["targets"]
    ]


def selectors(expression: str) -> Iterator[promql.VectorSelector]:
    found: list[promql.VectorSelector] = []

    def visit(node: promql.Expr) -> bool:
        if isinstance(node, promql.VectorSelector):
            found.append(node)
        return True

    promql.walk(promql.parse(expression), visit)
    return iter(found)


def grouped(expression: str) -> set[str]:
    """Return the labels by which an expression aggregates."""
    found: set[str] = set()

    def visit(node: promql.Expr) -> bool:
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            found.update(node.modifier.labels)
        return True

    promql.walk(promql.parse(expression), visit)
    return found


@pytest.mark.parametrize("expression", expressions())
def test_metrics_labels_and_values_are_exported(expression: str) -> None:
    page = exported()
    seen: set[str] = set(SERVED_BY_PROMETHEUS)
    for selector in selectors(expression):
        assert selector.name in page
        labels = page[selector.name]
        seen |= labels.keys()
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels.keys() | SERVED_BY_PROMETHEUS
            if matcher.op == promql.MatchOp.Equal:
                assert matcher.value in labels[matcher.name]
    assert grouped(expression) <= seen


def test_dashboard_and_rules_are_found() -> None:
    assert len(rules()) == 11
    assert len(panels()) == 19
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for g in (panel["gridPos"] for panel in panels())
        for x in range(g["x"], g["x"] + g["w"])
        for y in range(g["y"], g["y"] + g["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_manifests_pass_the_strict_schemas() -> None:
    assert [bad for thing in monitoring() if (bad := problems(thing))] == []


@pytest.mark.parametrize(
    ("kind", "name"), [("PodMonitor", "undrift"), ("PrometheusRule", "undrift")]
)
def test_broken_monitoring_fails(kind: str, name: str) -> None:
    broken = one(monitoring(), kind, name)
    broken["spec"]["unheard"] = 1
    assert "unheard" in " ".join(problems(broken))


def test_component_adds_the_same_to_an_overlay(tmp_path: Path) -> None:
    shutil.copytree(folder(), tmp_path / "kuberay", ignore=shutil.ignore_patterns("__pycache__"))
    wanted = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["kuberay/overlays/cpu"],
        "components": ["kuberay/monitoring"],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(wanted), encoding="utf-8")
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(done.stdout)}
    ours = [*compose("cpu"), *monitoring()]
    assert found == {(o["kind"], o["metadata"]["name"]): o for o in ours}


def test_ports_that_are_scraped_are_the_pods_own() -> None:
    cluster = one(compose("cpu"), "RayService", "undrift")["spec"]["rayClusterConfig"]
    head = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    named = {port["name"] for port in head["ports"]}
    scraped = {
        endpoint["port"]
        for thing in monitoring()
        if thing["kind"] == "PodMonitor"
        for endpoint in thing["spec"]["podMetricsEndpoints"]
    }
    assert scraped == {"serve", "metrics", "as-metrics", "dash-metrics"}
    assert scraped <= named


def test_dashboard_travels_in_a_config_map_that_the_sidecar_knows() -> None:
    made = one(monitoring(), "ConfigMap", "undrift-dashboard")
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(made["data"]["undrift.json"]) == dashboard()


def test_every_alert_has_its_section_in_the_run_book() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert sections == [rule["alert"] for rule in rules()]
    for rule in rules():
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbooks.md"
        assert anchor == rule["alert"].lower()
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}


# ---------------------------------------------------------------------- with promtool


def promtool(*arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [tool("promtool"), *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.thorough
def test_promtool_accepts_rules_and_finds_each_fires_when_it_should(tmp_path: Path) -> None:
    spec: dict[str, Any] = one(monitoring(), "PrometheusRule", "undrift")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    shutil.copy(CASES, tmp_path)
    promtool("check", "rules", "rules.yaml", cwd=tmp_path)
    promtool("test", "rules", CASES.name, cwd=tmp_path)


def test_cases_show_each_alert_firing_and_not_firing() -> None:
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    shown = {
        (check["alertname"], bool(check["exp_alerts"]))
        for case in cases
        for check in case["alert_rule_test"]
    }
    assert shown == {(rule["alert"], fires) for rule in rules() for fires in (True, False)}
