"""The jobs of a Ray cluster, through its dashboard; importing this does not import Ray."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from undrift.errors import AwayError, PlatformError

TOKEN_REFUSED = (
    "refused the token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the "
    "cluster's own"
)
OWN_TOKEN = "UNDRIFT_OWN_TOKEN"
"""A variable that is set where the cluster of this process has made up a token for itself."""
TIMEOUT_S = 10.0, 120.0
"""How long to wait for a connection and for an answer, seconds; Ray's client waits for ever."""

_EXISTS = "already exists"


class Dashboard:
    """The dashboard of one Ray cluster.

    Args:
        address: As ``http://HEAD:8265``.
        token_file: File with the cluster's token; None: what Ray's own variables say.

    Raises:
        AwayError: It does not answer now.
        PlatformError: It is none, or refuses the token.
    """

    def __init__(self, address: str, token_file: Path | None = None) -> None:
        if not address.startswith(("http://", "https://")):
            raise PlatformError(
                f"{address}: expected the dashboard of a Ray cluster, as http://HEAD:8265"
            )
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            os.environ.pop(name, None)  # Ray would prefer them to the address
        if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        class Client(JobSubmissionClient):  # type: ignore[misc]
            def _do_request(self, *args: Any, **kwargs: Any) -> Any:
                return super()._do_request(*args, timeout=TIMEOUT_S, **kwargs)

        self.address = address
        self._refused: type[Exception] = AuthenticationError
        for module in ("dashboard_sdk", "job.sdk"):  # they tell each step
            logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.ERROR)
        try:
            self._client: Any = Client(address, headers=_headers(token_file))
        except AuthenticationError:
            raise self._refusal() from None
        except OSError as error:
            if getattr(error, "response", None) is not None:
                raise PlatformError(f"{address} is no Ray dashboard: {error}") from None
            raise AwayError(
                f"no Ray dashboard answers at {address}; is `ray start --head` running there, with "
                "a dashboard?"
            ) from None
        except Exception as error:  # whatever else may answer there
            raise PlatformError(f"{address} is no Ray dashboard: {error}") from None

    def status(self, job: str) -> tuple[str, str]:
        """Return what has become of a job, and what Ray says of it; empty if there is none.

        Raises:
            PlatformError: The cluster does not say.
        """
        answer = self._ask("GET", f"/api/jobs/{job}")
        if answer is None:
            return "", ""
        found = answer.json()
        return str(found["status"]), str(found.get("message") or "")

    def log(self, job: str) -> str:
        """Return what a job has said.

        Raises:
            PlatformError: The cluster does not say.
        """
        answer = self._ask("GET", f"/api/jobs/{job}/logs")
        return "" if answer is None else str(answer.json().get("logs") or "")

    def hand_in(self, job: str, entrypoint: str, runtime_env: dict[str, Any]) -> None:
        """Start a job, unless the cluster has one of this name, whatever became of it.

        Args:
            job: Its name, used once.
            entrypoint: Its command.
            runtime_env: What travels with it.

        Raises:
            PlatformError: The cluster does not take it.
        """
        try:
            self._client.submit_job(
                submission_id=job, entrypoint=entrypoint, runtime_env=runtime_env
            )
        except self._refused:
            raise self._refusal() from None
        except Exception as error:
            if _EXISTS not in str(error):
                raise AwayError(f"{self.address} did not take the job: {error}") from None

    def stop(self, job: str) -> None:
        """Ask for the end of a job; one that has ended, or never was, is left alone.

        Raises:
            PlatformError: The cluster does not say.
        """
        self._ask("POST", f"/api/jobs/{job}/stop")

    def _ask(self, method: str, path: str) -> Any:
        """Return an answer; None if there is no such job."""
        try:
            answer = self._client._do_request(method, path)
        except self._refused:
            raise self._refusal() from None
        except OSError:
            raise AwayError(f"the Ray dashboard at {self.address} does not answer") from None
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            told = answer.text.strip().splitlines()[-1:] or [""]
            raise AwayError(f"{self.address} answered {answer.status_code}: {told[0][:300]}")
        return answer

    def _refusal(self) -> PlatformError:
        return PlatformError(f"the Ray cluster at {self.address} {TOKEN_REFUSED}")


def _headers(token_file: Path | None) -> dict[str, str]:
    """Return what to send beside what Ray sends by itself, the token of its own cluster."""
    if token_file is None and OWN_TOKEN in os.environ:
        named = os.environ.get("RAY_AUTH_TOKEN_PATH")
        if named is None:
            return {"Authorization": ""}  # nobody else has a use for it
        token_file = Path(named)
    if token_file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {token_file.read_text(encoding='utf-8').strip()}"}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlatformError(f"cannot read the token in {token_file}: {reason}") from None
