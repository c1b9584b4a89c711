"""Which keys sign the requests: those of the settings, or the standard AWS chain with its refresh."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ingest.errors import CredentialsError
from ingest.settings.sendable import is_access_key, is_header
from ingest.system.redaction import protecting

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials, AioRefreshableCredentials

    from ingest.settings.source import SourceSettings

_NEVER = float("inf")
_QUOTABLE = 2
"""Generations of credentials that a server may still quote."""
_MALFORMED = (LookupError, TypeError, AttributeError)
"""What botocore stumbles over where a provider answers JSON of another shape than AWS documents."""
_REFRESH_CHECK = 60.0
"""Seconds between looks at credentials that expire. botocore renews them 15 minutes ahead, so a minute is early."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    access_key: str
    secret_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        return "Credentials(***)"


class CredentialSource(Protocol):
    """Where credentials come from. `check_at` (monotonic seconds) is when `refresh` wants to be asked again."""

    @property
    def current(self) -> Credentials: ...

    @property
    def check_at(self) -> float: ...

    async def refresh(self) -> None:
        """Renews `current` if it is about to expire."""

    async def reload(self, refused: Credentials) -> bool:
        """The server refused a request that was signed by these: looks for newer ones, unless that was done since they
        were `current`. Returns whether `current` differs now.

        Raises:
            CredentialsError: the chain has none any more.
        """

    def close(self) -> None:
        """Nobody will quote these credentials any more."""


class StaticCredentials:
    """Keys from the settings: the same for the whole run."""

    check_at = _NEVER

    def __init__(self, current: Credentials) -> None:
        self.current = current

    async def refresh(self) -> None:
        """Nothing to do: these do not expire by a clock of ours."""

    async def reload(self, refused: Credentials) -> bool:
        return refused != self.current

    def close(self) -> None:
        """Whoever has the settings protects their secrets."""


class ChainCredentials:
    """The standard AWS chain (environment, profile, SSO, container, instance role) as botocore walks it."""

    def __init__(self) -> None:
        self.current = Credentials("", "")
        self.check_at = 0.0
        self._chosen: AioCredentials | AioRefreshableCredentials | None = None
        self._one_at_a_time = asyncio.Lock()
        self._protected: deque[ExitStack] = deque()

    def close(self) -> None:
        while self._protected:
            self._protected.popleft().close()

    async def refresh(self) -> None:
        async with self._one_at_a_time:
            if time.monotonic() >= self.check_at:
                await self._load()

    async def reload(self, refused: Credentials) -> bool:
        async with self._one_at_a_time:
            # What was under way when the chain was walked needs no walk of its own, whatever was found.
            if refused is self.current:
                self._chosen = None
                await self._load(walked=True)
            return refused != self.current

    async def _load(self, *, walked: bool = False) -> None:
        # Imported here: botocore costs a quarter of a second, and static keys do without it.
        from aiobotocore.credentials import AioRefreshableCredentials
        from aiobotocore.session import get_session
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._chosen is None:
                self._chosen = await get_session().get_credentials()
            if self._chosen is None:
                raise CredentialsError("no credentials: S3_ACCESS_KEY is not set and the standard AWS chain has none")
            frozen = await self._chosen.get_frozen_credentials()
            sendable = is_access_key(frozen.access_key) and is_header(frozen.token or "")
        except (BotoCoreError, ClientError, OSError, ValueError, *_MALFORMED) as error:
            reason = " ".join(str(error).split())
            raise CredentialsError(f"the standard AWS chain failed ({type(error).__name__}): {reason}") from None
        if not sendable:
            raise CredentialsError("the standard AWS chain's access key or session token holds line breaks or blanks")
        self._use(Credentials(frozen.access_key, frozen.secret_key, frozen.token or ""), walked=walked)
        expires = isinstance(self._chosen, AioRefreshableCredentials)
        self.check_at = time.monotonic() + _REFRESH_CHECK if expires else _NEVER

    def _use(self, found: Credentials, *, walked: bool) -> None:
        """Signs with these from now on. Answers to the last ones may still quote those.

        A walk that found the same ones is known by another object (see `reload`).
        """
        is_news = found != self.current
        if walked or is_news:
            self.current = found
        if not is_news:
            return
        protected = ExitStack()
        protected.enter_context(protecting((found.access_key, found.secret_key, found.session_token)))
        self._protected.append(protected)
        if len(self._protected) > _QUOTABLE:
            self._protected.popleft().close()


def credential_source(settings: SourceSettings) -> CredentialSource:
    """The source that the settings ask for. Nothing is read or asked yet: call `refresh` first."""
    if settings.access_key is None or settings.secret_key is None:
        return ChainCredentials()
    token = settings.session_token.get_secret_value() if settings.session_token is not None else ""
    keys = (settings.access_key.get_secret_value(), settings.secret_key.get_secret_value())
    return StaticCredentials(Credentials(*keys, token))
