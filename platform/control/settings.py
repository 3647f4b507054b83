"""The lifecycle section of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from undrift.settings import Section

RolloutStage = tuple[str, float, int]
"""A stage of a rollout: ``shadow`` or ``canary``, share of the requests, labelled rows."""


class RolloutSettings(Section):
    """Stages between a candidate that passed the gate and its promotion; none by default."""

    shadow_rows: int = Field(0, ge=0)
    """Labelled rows on which a candidate that answers nobody is compared with the live version
    before it goes on; 0: no such stage."""
    shadow_share: float = Field(1.0, gt=0, le=1)
    """Share of the requests that the shadow is asked too, chosen by their ids."""
    canary_steps: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Shares of the requests that the candidate answers, one step after the other, chosen by their
    ids: who is in a step is in all later ones. Empty: no such stage."""
    canary_rows: int = Field(200, ge=1)
    """Labelled rows of its own answers on which a canary is compared, in each step."""
    stage_timeout_s: float = Field(86_400.0, gt=0)
    """A stage in which too few labels have come for this long ends as `without_labels` says."""
    without_labels: Literal["call_off", "go_on"] = "call_off"
    """call_off: the candidate is given up then; go_on: the next stage begins."""

    @model_validator(mode="after")
    def _steps_ascend(self) -> Self:
        if any(a >= b for a, b in zip(self.canary_steps, self.canary_steps[1:], strict=False)):
            raise ValueError(f"canary_steps must ascend, got {list(self.canary_steps)}")
        return self

    def plan(self, strategy: str = "") -> tuple[RolloutStage, ...]:
        """Return the stages of a rollout.

        Args:
            strategy: ``shadow`` begins with a shadow, ``canary`` leaves it out; each is done with
                usual figures where none is configured. Empty: what is configured.

        Example:
            >>> RolloutSettings(shadow_rows=50).plan()
            (('shadow', 1.0, 50),)
            >>> RolloutSettings().plan("shadow")
            (('shadow', 1.0, 200), ('canary', 0.05, 200), ('canary', 0.25, 200))
        """
        shadow = self.shadow_rows or (self.canary_rows if strategy == "shadow" else 0)
        usual = strategy == "canary" or (strategy == "shadow" and not self.shadow_rows)
        steps = self.canary_steps or ((0.05, 0.25) if usual else ())
        first = [("shadow", self.shadow_share, shadow)] if shadow and strategy != "canary" else []
        return (*first, *(("canary", share, self.canary_rows) for share in steps))


def _receiver(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound or "@" in parts.netloc:
        raise ValueError("an http:// or https:// URL without user and password")
    return url


WebhookEvent = Literal[
    "warning",
    "warning_over",
    "drift",
    "drift_over",
    "retraining",
    "weights",
    "candidate",
    "shadow",
    "canary",
    "promoted",
    "rolled_back",
    "failed",
]


class WebhookSettings(Section):
    """Addresses that are told what happens, as CloudEvents; none by default."""

    urls: tuple[Annotated[str, AfterValidator(_receiver)], ...] = Field((), max_length=4)
    """`http://` or `https://` URLs, each of which gets a POST for each event. They are kept out of
    the journal, and only their hosts are told in messages."""
    events: tuple[WebhookEvent, ...] = ()
    """Which events; empty: all."""
    secret_env: str = Field("", pattern=r"^[A-Za-z0-9_]*$")
    """Environment variable of the controller with a secret; each body is signed with it, by
    HMAC-SHA256 in the header `X-Undrift-Signature`. Empty: no signature."""
    timeout_s: float = Field(5.0, gt=0, le=60)
    """Longest time that one delivery may take, seconds; it is tried four times."""
    allow_private: bool = False
    """Whether receivers may have loopback, link-local or private addresses, as inside a cluster."""


class LifecycleSettings(Section):
    """When the platform may act by itself."""

    mode: Literal["off", "suggest", "auto"] = "auto"
    """off: only watch; suggest: retrain, then wait for an operator; auto: promote as well."""
    retrain_when: Literal["worse", "better"] = "better"
    """worse: retrain as soon as there is a drift; better: when a challenger shows that another
    model would be better now, or when labels are missing and the drift was escalated."""
    min_regime_rows: int = Field(250, ge=1)
    """Labelled rows of the new regime to wait for before it is retrained on."""
    cooldown_s: float = Field(300.0, ge=0)
    """Seconds between the end of one change of version and the next automatic retraining."""
    backoff_s: float = Field(60.0, ge=0)
    """Seconds before another try after a rejected or failed candidate; doubles each time."""
    backoff_max_s: float = Field(3600.0, ge=0)
    """Longest back-off, seconds."""
    refine_growth: float = Field(2.0, ge=0)
    """Retrain again when the labelled rows of the new regime have grown this much; 0: never."""
    refine_limit: int = Field(3, ge=0)
    """At most this many refinements for one regime."""
    retrain_every_rows: int = Field(0, ge=0)
    """Retrain after this many new labels though no drift was found, on the newest four times as
    many, for a world that never rests; 0: never."""
    auto_rollback: bool = True
    """Go back to the previous version when the probation fails, in every mode."""
    probation_timeout_s: float = Field(86_400.0, gt=0)
    """A probation that has seen too few labels for this long ends as unproven."""
    retraining_timeout_s: float = Field(21_600.0, gt=0)
    """A retraining without a candidate for this long is given up, and counts as failed."""

    rollout: RolloutSettings = RolloutSettings()
    """Stages before a promotion."""
    webhooks: WebhookSettings = Field(WebhookSettings(), exclude=True)
    """Who is told of what happens."""

    @property
    def newest_rows(self) -> int:
        """Labelled rows that a retraining for the amount of new labels is for."""
        return 4 * self.retrain_every_rows
