"""What an answer of the verification service means, for the service and for the object: pause, verdict, settlement."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from ingest.catalog.outbox import Claimed, Settlement
from ingest.delivery.service import Answer
from ingest.errors import EndpointAstray, IngestError
from ingest.model import DeliveryState
from ingest.observe.logs import log
from ingest.plan.breaker import Breaker, Circuit
from ingest.plan.rulings import MOST_DELIVERIES, Ruling, pause_after
from ingest.plan.verdicts import Verdicts, Whose

_LONGEST_HOLD = 60.0


@dataclass
class Judge:
    """Of one address, which is `shown` so; it opens and closes the circuit."""

    shown: str
    breaker: Breaker
    verdicts: Verdicts[tuple[Claimed, Answer]] = field(default_factory=Verdicts)
    trouble: IngestError | None = None
    """Why the circuit opened, until a delivery succeeds again."""
    _refused_at: dict[int, float] = field(default_factory=dict)
    """When the service refused these rows as if it refused everybody."""
    _taken_at: float = float("-inf")
    """When the last delivery that was taken had been sent."""

    def settle(self, claimed: Claimed, answer: Answer, sent: float) -> list[Settlement]:
        """What is settled by the answer to what was sent at this time (the loop's clock): one delivery, several that it
        tells of, or none yet."""
        if answer.ruling is Ruling.REJECTED:
            return self._refused(claimed, answer)
        if answer.ruling is not Ruling.DELIVERED:
            return [self._learn(claimed, answer)]
        self.breaker.succeeded()
        self._taken_at = max(self._taken_at, sent)
        self.trouble = None
        refused = [_rejected(*one) for one in self.verdicts.taken(sent)]
        return [*refused, Settlement(claimed, DeliveryState.DELIVERED, answer.status, answer.body, blamed=True)]

    def end_row(self) -> list[Settlement]:
        """Nothing but what is held is left to try: it is decided by what is known."""
        if not self.verdicts.held:
            return []
        whose, held = self.verdicts.ended(), self.verdicts.released()
        if whose is Whose.OBJECT:
            return [_rejected(*one) for one in held]
        return self._astray(held, f"answered {held[-1][1].status} to all that it got ({len(held)}), and took nothing")

    def forget(self, number: int) -> None:
        """This row is concluded."""
        self._refused_at.pop(number, None)

    def again(self, claimed: Claimed, answer: Answer, reason: str) -> Settlement:
        """Pending still: what is the object's own trouble waits longer each time, and is given up in the end."""
        now, attempts = _now(), claimed.attempts + 1
        log().warning("delivery_postponed", key=claimed.key, message=reason, attempts=attempts)
        if answer.ruling is Ruling.ENDPOINT:
            return Settlement(
                claimed, DeliveryState.PENDING, answer.status, answer.body, reason, 2 * self.breaker.wait(now)
            )
        blamed = answer.ruling is Ruling.FAULT or answer.retry_after is None
        if blamed and attempts >= MOST_DELIVERIES:
            return given_up(claimed, f"given up after {attempts} attempts: {reason}", answer)
        pause = pause_after(attempts if blamed else 1, random.random())  # noqa: S311 - no secret
        # Longer than the circuit's: what failed leaves the probe to others, and where there are none, to what comes.
        pause = max(pause, answer.retry_after or 0.0, 2 * self.breaker.wait(now) if self._is_paused else 0.0)
        return Settlement(claimed, DeliveryState.PENDING, answer.status, answer.body, reason, pause, blamed)

    @property
    def _is_paused(self) -> bool:
        return self.breaker.circuit is not Circuit.CLOSED

    def _refused(self, claimed: Claimed, answer: Answer) -> list[Settlement]:
        """A refusal is a verdict on the object, or says that nobody is at this address; or that is not known yet."""
        now, status = _now(), answer.status or 0
        again = claimed.answered == status and self.verdicts.now
        if again or self._was_refused(claimed) < self._taken_at:
            self.breaker.succeeded()
            return [_rejected(claimed, answer)]
        if self.verdicts.refused(status, (claimed, answer), now) is Whose.HELD:
            self.breaker.succeeded()
            return []
        refused = [*self.verdicts.released(), (claimed, answer)]
        return self._astray(refused, f"answered {status} to {self.verdicts.row} requests in a row, and took nothing")

    def _astray(self, refused: Iterable[tuple[Claimed, Answer]], said: str) -> list[Settlement]:
        error = EndpointAstray(f"{self.shown} {said}")
        return [
            self._learn(claimed, answer._replace(ruling=Ruling.ENDPOINT, error=error), own=False)
            for claimed, answer in refused
        ]

    def _learn(self, claimed: Claimed, answer: Answer, *, own: bool = True) -> Settlement:
        """What an answer that is no verdict means; `own` says that it may be this object's own trouble."""
        now, was_open = _now(), self._is_paused
        error = answer.error
        if answer.ruling is Ruling.ENDPOINT and own and self._is_its_own(claimed):
            answer = answer._replace(ruling=Ruling.FAULT)
        if answer.ruling is Ruling.BUSY:
            unasked = min(_LONGEST_HOLD, pause_after(claimed.attempts + 1, 0.0))
            self.breaker.hold(now, unasked if answer.retry_after is None else answer.retry_after)
        elif answer.ruling is Ruling.FAULT:
            self.breaker.failed(now)
        else:
            self.breaker.trip(now)
        if self._is_paused and error is not None:
            self.trouble = error
            if not was_open:
                log().error("endpoint_paused", error=error.code, message=error.message, hint=error.hint)
        return self.again(claimed, answer, error.message if error is not None else "")

    def _is_its_own(self, claimed: Claimed) -> bool:
        """Whether a refusal that seems to be everybody's concerns this object alone: it was refused before, and others
        fared better meanwhile, or it has had trouble of its own."""
        return claimed.attempts > 0 or self._was_refused(claimed) < self._taken_at

    def _was_refused(self, claimed: Claimed) -> float:
        return self._refused_at.setdefault(claimed.id, _now())


def given_up(claimed: Claimed, reason: str, answer: Answer | None = None) -> Settlement:
    log().error("delivery_given_up", key=claimed.key, message=reason)
    status, body = (answer.status, answer.body) if answer is not None else (None, None)
    return Settlement(claimed, DeliveryState.DEAD, status, body, reason, blamed=answer is not None)


def _rejected(claimed: Claimed, answer: Answer) -> Settlement:
    log().error("delivery_rejected", key=claimed.key, status=answer.status)
    return Settlement(claimed, DeliveryState.REJECTED, answer.status, answer.body, blamed=True)


def _now() -> float:
    return asyncio.get_running_loop().time()
