from __future__ import annotations

import pytest

from undrift.serve.callers import foreign_page
from undrift.serve.settings import ListenSettings

HERE, EVERYWHERE = ListenSettings(), ListenSettings(host="0.0.0.0")


def status(settings: ListenSettings, **headers: str) -> int:
    sent = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    refusal = foreign_page(sent, settings)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8000", "127.0.0.1:1", "[::1]", "[::1]:9"])
def test_names_of_this_machine_are_answered_on_loopback(host: str) -> None:
    assert status(HERE, host=host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example:8000", "127.0.0.1.nip.io", "[::2]", "a@localhost"],
)
def test_other_names_for_this_machine_are_refused_on_loopback_alone(host: str) -> None:
    assert status(HERE, host=host) == 403
    assert status(EVERYWHERE, host=host) == 200


def test_health_check_of_the_load_balancer_names_no_host() -> None:
    assert status(HERE) == 200


@pytest.mark.parametrize("settings", [HERE, EVERYWHERE])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"origin": "http://localhost:8000"}, 200),
        ({"origin": "HTTPS://LOCALHOST:8000"}, 200),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-origin", "origin": "http://localhost:8000"}, 200),
        ({"sec_fetch_site": "none"}, 200),
    ],
)
def test_page_is_answered_only_if_it_is_of_this_site(
    settings: ListenSettings, headers: dict[str, str], expected: int
) -> None:
    assert status(settings, host="localhost:8000", **headers) == expected
