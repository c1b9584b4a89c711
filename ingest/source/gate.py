"""All requests to the bucket pass here: at the pace that the server permits, and one by one only while it is away.

The decisions are those of `plan.gate`. While nothing is wrong a request costs no more than one look at a flag.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import TypeVar

from ingest.errors import ConnectionTimedOut, CredentialsExpired, IngestError, SlowDown, SourceError
from ingest.observe.logs import log
from ingest.plan.gate import ANSWERS, FAULTS, FIRST_PAUSE, Blame, Gate, RequestKind, Trial
from ingest.tasks.turns import Line

T = TypeVar("T")
Probe = Callable[[RequestKind, str | None], Awaitable[None]]
"""Asks for as little of that kind as may be: of an object by its key, or else of the bucket. Raises `SourceError`."""
_PROBE_SECONDS = 10.0


class Gatekeeper:
    """Sends requests through a `Gate`. `on_overload` is told the time, whenever the server asks for less or is late."""

    def __init__(self, gate: Gate, probe: Probe, on_overload: Callable[[float], None] | None = None) -> None:
        self._gate = gate
        self._ask = probe
        self._on_overload = on_overload
        self._shut = False
        self._line = Line(self._is_due, lambda _: None)
        self._timer: asyncio.TimerHandle | None = None
        self._prober: asyncio.Task[None] | None = None
        self._good: dict[RequestKind, str | None] = dict.fromkeys(RequestKind)
        """The key of what was answered last: what a probe asks for."""
        self._suspects: deque[Trial] = deque()
        """Requests that failed and may be sent again; the one to be asked for next stands first."""
        self._error = SourceError("the source is away")
        """Why the gate is closed, or lost."""
        self._ended: Exception | None = None
        """Why nobody waits any more."""
        self._said = False

    @property
    def trouble(self) -> str:
        """Why nothing moves; empty while it does."""
        return f"the bucket is away: {self._error.code}" if self._said else ""

    async def through(
        self,
        send: Callable[[], Awaitable[T]],
        kind: RequestKind,
        key: str | None = None,
        *,
        again: Callable[[], bool] = lambda: True,
        faults: bool = True,
    ) -> T:
        """What `send` returns in the end.

        It is called again for whatever is the source's fault, while `again` says that it may be. Without `faults`, only
        for being asked to wait. And once where the credentials that it was signed by have been replaced.

        Raises:
            SourceError: its own fault; or the source stayed away (`away`) for longer than anybody has patience.
        """
        trial: Trial | None = None
        try:
            while True:
                if self._shut:
                    await self._turn()
                if trial is not None and not (await self._may_go_on(trial) and again()):
                    raise trial.error
                sent_at = monotonic()
                try:
                    result = await _signed(send, again)
                except SourceError as error:
                    if isinstance(error, ANSWERS):
                        self._gate.answered(kind, sent_at)
                    if not self._concerns_all(error, faults=faults):
                        raise
                    if trial is None:
                        self._suspects.append(trial := Trial(kind, error, key))
                    trial.error = error
                    await self._after(trial, sent_at)
                else:
                    self._gate.answered(kind, sent_at)
                    self._good[kind] = key
                    return result
        finally:
            if trial is not None:
                self._suspects.remove(trial)

    def abandon(self, error: Exception) -> None:
        """Nobody waits any more: who does, or would, gets `error`."""
        self._ended = error
        self._gate.lost = self._shut = True
        self._line.serve()

    async def aclose(self) -> None:
        self.abandon(SourceError("the bucket was closed"))
        if self._timer is not None:
            self._timer.cancel()
        if self._prober is not None:
            self._prober.cancel()
            await asyncio.wait({self._prober})

    def _concerns_all(self, error: SourceError, *, faults: bool) -> bool:
        """Whether others may have to wait as well. A certificate that never was right is no outage."""
        if not self._gate.patience:
            return False
        return isinstance(error, SlowDown) or (
            faults and isinstance(error, FAULTS) and (error.retryable or self._gate.proved)
        )

    async def _after(self, trial: Trial, sent_at: float) -> None:
        """Takes note of a failure, and gives others the time to show whether they fare better."""
        gate, error, now = self._gate, trial.error, monotonic()
        overloaded = isinstance(error, ConnectionTimedOut)
        if isinstance(error, SlowDown):
            free = gate.pace.free
            overloaded = gate.refused(trial, sent_at, now, error.retry_after)
            if free:
                self._say_busy(error)
        else:
            gate.failed(trial, now)
        self._shut = gate.shut(now)
        if overloaded and self._on_overload is not None:
            self._on_overload(now)
        if gate.closed is not None:
            self._begin(trial)
        if not trial.busy or trial.alone:
            await asyncio.sleep(FIRST_PAUSE * 2 ** min(trial.alone, 6) * random.uniform(0.5, 1.5))  # noqa: S311 - jitter

    async def _may_go_on(self, trial: Trial) -> bool:
        while (verdict := self._gate.judge(trial)) is Blame.UNKNOWN:
            self._gate.close(trial.kind, monotonic())
            self._begin(trial)
            await self._turn()
        if verdict is Blame.OWN and trial.busy:
            trial.error.retryable = False  # it was asked often enough
        return verdict is Blame.AGAIN

    # Turns: at most one at a time is due, and the gate says when.

    async def _turn(self) -> None:
        self._raise_if_lost()
        now = monotonic()
        if not self._line and self._is_due():
            self._shut = self._gate.shut(now)
            return
        self._arm(now)
        await self._line.wait()
        self._raise_if_lost()

    def _is_due(self, _: int = 1) -> bool:
        now = monotonic()
        if self._gate.wait(now) > 0 and not self._gate.lost:
            return False
        self._gate.pace.start(now)
        return True

    def _arm(self, now: float) -> None:
        if self._timer is None and self._gate.closed is None:
            self._timer = asyncio.get_running_loop().call_later(self._gate.wait(now), self._release)

    def _release(self) -> None:
        self._timer = None
        self._line.serve()
        self._watch_line(monotonic())

    def _watch_line(self, now: float) -> None:
        self._shut = self._gate.shut(now) or bool(self._line)
        if self._line:
            self._arm(now)

    def _raise_if_lost(self) -> None:
        if not self._gate.lost:
            return
        if self._ended is not None:
            raise self._ended
        error = self._error
        lost = type(error)(error.message, hint=error.hint)
        lost.retryable, lost.away, lost.answered_before = False, True, self._gate.proved
        raise lost

    # Probes.

    def _begin(self, trial: Trial) -> None:
        self._error, self._shut = trial.error, True
        if self._prober is None or self._prober.done():
            self._prober = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        try:
            await self._probe_on()
        except Exception as defect:  # noqa: BLE001 - ours: who waits for the gate gets it, or would wait for ever
            self.abandon(defect)

    async def _probe_on(self) -> None:
        """Asks until the source answers, or is lost."""
        gate = self._gate
        while (kind := gate.closed) is not None and not gate.lost:
            await asyncio.sleep(gate.next_probe(monotonic(), random.random()))  # noqa: S311 - jitter, no secret
            sent_at = monotonic()
            failure: SourceError | None = None
            try:
                async with asyncio.timeout(max(0.1, min(_PROBE_SECONDS, gate.left(sent_at)))):
                    await self._ask(kind, self._target(kind))
            except TimeoutError:
                failure = self._error  # that it does not answer is known; this may say why
            except IngestError as error:
                # Any other error is an answer, or shows that it is not the source: the request itself tells it then.
                failure = error if isinstance(error, SourceError) and self._concerns_all(error, faults=True) else None
            if gate.lost:
                return
            if failure is None:
                self._open(sent_at)
            else:
                self._stay_closed(failure)

    def _target(self, kind: RequestKind) -> str | None:
        """Something that is known to be good. Where nothing is, all that failed in turn; one alone proves nothing."""
        failed = {trial.key for trial in self._suspects if trial.kind is kind}
        if self._good[kind] is not None or len(failed) < 2:
            return self._good[kind]
        self._suspects.rotate(-1)
        while self._suspects[0].kind is not kind:
            self._suspects.rotate(-1)
        return self._suspects[0].key

    def _stay_closed(self, failure: SourceError) -> None:
        gate, now = self._gate, monotonic()
        gate.probe_failed(now, failure.retry_after)
        self._error = failure
        if gate.lost:
            waited = now - gate.closed_at
            self._error = type(failure)(f"{failure.message}; it was waited for, for {waited:.0f} s", hint=failure.hint)
            self._line.serve()
        elif not self._said:
            self._said = True
            most = f", for {gate.left(now):.0f} s at most" if gate.patience < inf else ""
            log().warning(
                "source_away", error=failure.code, message=f"{failure.message}; everything waits until it answers{most}"
            )

    def _open(self, sent_at: float) -> None:
        gate, now = self._gate, monotonic()
        gate.probe_answered(sent_at, now)
        if self._said:
            self._said = False
            away = now - gate.closed_at
            log().warning(
                "source_back", message=f"the source answers again, after {away:.1f} s", seconds=round(away, 1)
            )
        self._watch_line(now)

    def _say_busy(self, error: SlowDown) -> None:
        asked = error.retry_after
        words = "everything slows down to what it permits"
        if asked:
            words = f"everything pauses for {min(asked, self._gate.longest_hold):.0f} s of the {asked:.0f} s asked for"
        log().warning("source_busy", error=error.code, message=f"{error.message}; {words}")


async def _signed(send: Callable[[], Awaitable[T]], again: Callable[[], bool]) -> T:
    """What `send` returns; sent again, once, where others have taken the place of the credentials that signed it."""
    try:
        return await send()
    except CredentialsExpired as error:
        if not (error.renewed and again()):
            raise
        return await send()
