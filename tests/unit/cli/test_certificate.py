"""The certificate of HTTPS: checked before a start, refused where it is of no use."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.helpers.certificates import make
from tests.helpers.tuning import project
from undrift.app import build, prepare_state
from undrift.cli.verbs import app
from undrift.config import load_config
from undrift.errors import ConfigError
from undrift.jobs.deploy import deploy
from undrift.k8s.render import render


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = project(tmp_path)
    make(tmp_path / "tls.pem")
    with path.open("a", encoding="utf-8") as file:
        file.write("\nserve: {tls_certificate: tls.pem}\n")
    return path


def test_check_and_start_refuse_an_expired_certificate(path: Path) -> None:
    checked = CliRunner().invoke(app, ["config", "check", "--config", str(path)])
    assert checked.exit_code == 0, checked.output
    prepare_state(load_config(path))
    make(path.parent / "tls.pem", days=-1)
    checked = CliRunner().invoke(app, ["config", "check", "--config", str(path)])
    assert (checked.exit_code, "has expired" in checked.stderr) == (1, True)
    with pytest.raises(ConfigError, match="has expired"):
        prepare_state(load_config(path))


@pytest.mark.filterwarnings("default")  # of Ray Serve
def test_certificate_is_refused_where_the_load_balancer_is_not_ours(path: Path) -> None:
    with pytest.raises(ConfigError, match="TLS is for the ingress"):
        render(path)
    with pytest.raises(ConfigError, match="TLS is for what stands before Ray Serve"):
        build({"config": str(path)})
    with pytest.raises(ConfigError, match="TLS is for what stands before Ray Serve"):
        deploy(load_config(path), "auto")
