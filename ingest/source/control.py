"""The control plane by aioboto3: buckets, put, delete.

botocore makes and signs the requests, and reads the answers; they travel over the connections of the read path, so that
proxies, certificates, redirects and errors are the same, and nothing of the environment but the proxies counts.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from xml.sax.saxutils import escape

from ingest.errors import AccessKeyUnknown, CredentialsExpired, SourceError, UnexpectedResponse
from ingest.source.credentials import Credentials, credential_source
from ingest.source.errors import error_from_response
from ingest.source.transport import Transport
from ingest.system.redaction import redact_causes

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

    from ingest.settings.source import SourceSettings


class ControlPlane:
    """Use ``async with ControlPlane(settings) as control``. Nothing is imported or connected before the first call."""

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._credentials = credential_source(settings)
        self._signed_by: Credentials | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._credentials.close()

    async def call(self, operation: str, **parameters: object) -> Any:
        """One request, by the name and with the parameters that botocore has for it. Never retried here.

        Raises:
            SourceError: it failed. The cause of one that the server named is botocore's ``ClientError``.
            SettingsError: the endpoint, a proxy or a certificate is not usable.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        client, used = await self._opened()
        try:
            return await getattr(client, operation)(**parameters)
        except ClientError as error:
            redact_causes(error)
            raise await self._judged(_refusal(error.response, operation), used) from error
        except BotoCoreError as error:
            raise UnexpectedResponse(f"{operation}: {type(error).__name__}") from None

    async def _opened(self) -> tuple[Any, Credentials]:
        async with self._opening:
            if self._credentials.check_at <= time.monotonic():
                await self._credentials.refresh()
            if self._client is None or self._signed_by != self._credentials.current:
                self._signed_by = self._credentials.current
                self._client = await self._stack.enter_async_context(self._new_client(self._signed_by))
            return self._client, self._signed_by

    async def _judged(self, error: SourceError, used: Credentials) -> SourceError:
        """Refused credentials are looked up anew: a caller's retry signs with those."""
        if isinstance(error, CredentialsExpired | AccessKeyUnknown) and await self._credentials.reload(used):
            return CredentialsExpired(error.message)
        return error

    def _new_client(self, credentials: Credentials) -> Any:
        import aioboto3
        from aiobotocore.config import AioConfig

        settings = self._settings
        config = AioConfig(
            http_session_cls=partial(Transport, settings),
            retries={"total_max_attempts": 1},  # ours are the only ones
            s3={"addressing_style": settings.addressing_style},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={},
        )
        return aioboto3.Session(botocore_session=_isolated_session()).client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region,
            config=config,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            aws_session_token=credentials.session_token or None,
        )


def _isolated_session() -> AioSession:
    """A session that reads neither ``AWS_*`` nor ``~/.aws``: a profile that does not exist, or a broken file, is
    nothing to a client that is told everything."""
    from aiobotocore.session import AioSession
    from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConfigChainFactory, ConfigValueStore

    session = AioSession()
    chain = ConfigChainFactory(session=session, environ={})
    store = ConfigValueStore(
        mapping={
            name: chain.create_config_chain(instance_name=name, default=default, conversion_func=converted)
            for name, (_, _, default, converted) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
        }
    )
    session.register_component("config_store", store)
    session.set_config_variable("config_file", os.devnull)
    session.set_config_variable("credentials_file", os.devnull)
    return session


def _refusal(answer: Any, operation: str) -> SourceError:
    """What the server's refusal means, in the same terms as on the read path."""
    said, about = answer.get("Error", {}), answer["ResponseMetadata"]
    code = str(said.get("Code", ""))
    code = "" if code.isdigit() else code  # to HEAD, botocore gives the status for a code
    text = f"<Error><Code>{escape(code)}</Code><Message>{escape(str(said.get('Message', '')))}</Message></Error>"
    headers = {name.lower().encode(): str(value).encode() for name, value in about.get("HTTPHeaders", {}).items()}
    return error_from_response(int(about["HTTPStatusCode"]), headers, text.encode() if code else b"", operation)
