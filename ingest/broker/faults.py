"""What keeps us from the broker, by name: aiokafka says "Unable to bootstrap" of everything.

An exception tells little of a connection that was simply closed, as Kafka does with whoever speaks otherwise than a
listener expects. Then the listener is asked what it would have liked: whether it speaks TLS, and wants a login.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

from aiokafka import errors
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import SaslHandShakeRequest

from ingest.broker.access import Access, Place
from ingest.errors import BrokerError, BrokerRefused, BrokerUntrusted
from ingest.http.tls import refused_certificate, tls_error
from ingest.settings.trust import unchecked_context

_ASK_SECONDS = 5.0
_NO_HANDSHAKE = "ALERT_HANDSHAKE_FAILURE"
"""In an alert from the other side: Java's way to miss a certificate of ours, or to want other ciphers."""
_LOGIN_REFUSED = (
    errors.SaslAuthenticationFailed,
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
)
FORBIDDEN = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)


async def named(error: BaseException, place: Place, access: Access) -> BrokerError:
    """What `error`, met on the way to `place`, means. May ask there once more, never with a password."""
    chain = list(_causes(error))
    for one in chain:
        if isinstance(one, ssl.SSLError):
            return await _of_tls(one, place, access)
    if isinstance(error, TimeoutError | errors.RequestTimedOutError):
        return await _of_silence(place, access)
    plain = _plainly(error, place, access)
    if plain is not None:
        return plain
    if any(isinstance(one, errors.UnsupportedSaslMechanismError | errors.IllegalSaslStateError) for one in chain):
        return await _of_mechanism(place, access)
    if isinstance(error, errors.IncompatibleBrokerVersion) and access.logs_in:
        return _wants_no_login(place, access)
    if isinstance(error, OSError | errors.KafkaConnectionError):
        return await _of_closed(place, access)
    if access.logs_in and not isinstance(error, errors.KafkaError):
        return _unproven(place, error)
    return BrokerError(f"{place}: {first_line(error)}")


def _plainly(error: BaseException, place: Place, access: Access) -> BrokerError | None:
    """What the exception itself says well enough."""
    if isinstance(error, socket.gaierror):
        said = f"{place}: the name cannot be resolved ({error.strerror})"
        return BrokerError(said, hint="Check the spelling, and that this machine's resolver knows the name.")
    if isinstance(error, ConnectionRefusedError):
        return BrokerError(f"{place}: nobody listens there ({error.strerror or 'Connection refused'})")
    if isinstance(error, _LOGIN_REFUSED):
        return _refused(place, access, str(error))
    if isinstance(error, FORBIDDEN):
        return forbidden(error)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return BrokerError(f"{place}: {first_line(error)}")
    return None


def forbidden(error: errors.KafkaError) -> BrokerRefused:
    return BrokerRefused(
        f"the broker forbids it: {first_line(error)}",
        hint="Let this user read KAFKA_TOPIC and KAFKA_GROUP_ID (ACLs: Describe and Read).",
    )


def _refused(place: Place, access: Access, said: str) -> BrokerRefused:
    if access.mechanism == "OAUTHBEARER":
        hint = "Renew KAFKA_SASL_TOKEN, or the file it is in."
        return BrokerRefused(f"{place}: the token is not accepted", hint=hint)
    user = access.settings.username
    reason = f" ({said.splitlines()[0]})" if said else ""
    return BrokerRefused(
        f"{place}: the user {user!r} or the password is not accepted with {access.mechanism}{reason}",
        hint="Check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD (or the file it is in) and KAFKA_SASL_MECHANISM.",
    )


def _unproven(place: Place, error: BaseException) -> BrokerRefused:
    return BrokerRefused(
        f"{place}: the broker cannot prove that it knows the password, or is no Kafka broker ({first_line(error)})",
        hint="Check that KAFKA_BOOTSTRAP_SERVERS is the broker that is meant: somebody may stand in its place.",
    )


def _wants_no_login(place: Place, access: Access) -> BrokerRefused:
    plain = access.protocol.removeprefix("SASL_")
    return BrokerRefused(
        f"{place}: the listener takes no login, and KAFKA_SECURITY_PROTOCOL is {access.protocol}",
        hint=f"Set KAFKA_SECURITY_PROTOCOL={'SSL' if plain == 'SSL' else 'PLAINTEXT'}, or use the listener with SASL.",
    )


async def _of_mechanism(place: Place, access: Access) -> BrokerRefused:
    offered = await _mechanisms(place, access)
    if offered is None:
        return _wants_no_login(place, access)
    if access.mechanism in offered:
        return BrokerRefused(
            f"{place}: the listener names {access.mechanism}, and refuses it",
            hint="Check that logins are set up at the broker; without any, KAFKA_SECURITY_PROTOCOL has no SASL_.",
        )
    return BrokerRefused(
        f"{place}: the listener does not take {access.mechanism}; it takes {', '.join(offered) or 'nothing'}",
        hint="Set KAFKA_SASL_MECHANISM to one of these.",
    )


async def _of_tls(error: ssl.SSLError, place: Place, access: Access) -> BrokerUntrusted:
    reason = error.reason or ""
    if refused_certificate(error, str(place)) is not None or _NO_HANDSHAKE in reason:
        return _of_our_certificate(reason, place, access)
    if not isinstance(error, ssl.SSLCertVerificationError) and await _answers(place, access.speaking("PLAINTEXT")):
        return _no_tls(place, access)
    return BrokerUntrusted(tls_error(error, str(place)).message, hint=_tls_hint(error))


def _of_our_certificate(reason: str, place: Place, access: Access) -> BrokerUntrusted:
    ours = access.settings.trust.certificate
    said = "does not accept KAFKA_CLIENT_CERT" if ours else "wants a certificate of ours, or other ciphers"
    return BrokerUntrusted(
        f"{place}: the broker {said} ({reason})",
        hint="Set KAFKA_CLIENT_CERT and KAFKA_CLIENT_KEY to what the broker's truststore knows.",
    )


def _no_tls(place: Place, access: Access) -> BrokerUntrusted:
    wanted = "SASL_PLAINTEXT" if access.logs_in else "PLAINTEXT"
    return BrokerUntrusted(
        f"{place}: the listener does not speak TLS, and KAFKA_SECURITY_PROTOCOL is {access.protocol}",
        hint=f"Set KAFKA_SECURITY_PROTOCOL={wanted}, or use the listener with TLS.",
    )


def _tls_hint(error: ssl.SSLError) -> str:
    said = getattr(error, "verify_message", "").lower()
    if "mismatch" in said or "not valid for" in said:
        return "Use a host name in KAFKA_BOOTSTRAP_SERVERS and advertised.listeners that the certificate names."
    if "expired" in said or "not yet valid" in said:
        return "Renew the broker's certificate, or set this machine's clock."
    return "Set KAFKA_CA_BUNDLE to the certificate of the authority that vouches for the broker's."


async def _of_silence(place: Place, access: Access) -> BrokerError:
    """A connection, and nothing on it: some wait for the rest of what they take for a very long request."""
    if access.speaks_tls and await _answers(place, access.speaking("PLAINTEXT")):
        return _no_tls(place, access)
    return BrokerError(
        f"{place}: no answer within {access.request_seconds:.0f} s",
        hint="A firewall may drop the packets, the broker be overloaded, or that port speak another protocol.",
    )


async def _of_closed(place: Place, access: Access) -> BrokerError:
    """Somebody listens, and hung up without a word."""
    if not access.speaks_tls and await _takes_tls(place):
        wanted = "SASL_SSL" if access.logs_in else "SSL"
        return BrokerUntrusted(
            f"{place}: the listener speaks TLS, and KAFKA_SECURITY_PROTOCOL is {access.protocol}",
            hint=f"Set KAFKA_SECURITY_PROTOCOL={wanted}, and KAFKA_CA_BUNDLE if its authority is one of your own.",
        )
    if access.speaks_tls and await _answers(place, access.speaking("PLAINTEXT")):
        return _no_tls(place, access)
    if access.logs_in and access.mechanism == "OAUTHBEARER":
        return _refused(place, access, "")
    offered = None if access.logs_in else await _mechanisms(place, access)
    if offered is not None:
        return BrokerRefused(
            f"{place}: the listener wants a login ({', '.join(offered)}), "
            f"and KAFKA_SECURITY_PROTOCOL is {access.protocol}",
            hint=f"Set KAFKA_SECURITY_PROTOCOL=SASL_{access.protocol}, KAFKA_SASL_MECHANISM and the login.",
        )
    if access.speaks_tls and (objection := await _objection(place, access)):
        return _of_our_certificate(objection, place, access)
    return BrokerError(
        f"{place}: the connection was closed without an answer",
        hint="Check that this is the port of a Kafka listener; the broker's log says why it hung up.",
    )


async def _takes_tls(place: Place) -> bool:
    context = unchecked_context()
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            _, writer = await asyncio.open_connection(place.host, place.port, ssl=context)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it speaks TLS, if only to say no
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _objection(place: Place, access: Access) -> str:
    """What the other side has against our side of the handshake, which is its last word in TLS 1.3; empty: nothing.

    A request that is on its way there would drown it, and some only hang up.
    """
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            context = access.settings.trust.context()
            reader, writer = await asyncio.open_connection(place.host, place.port, ssl=context)
            try:
                await reader.read(1)
            finally:
                writer.close()
    except ssl.SSLError as error:
        return error.reason or first_line(error)
    except TimeoutError:
        return ""
    except OSError as error:
        return first_line(error)
    return "closed after the handshake"


async def _answers(place: Place, access: Access) -> bool:
    """Whether a Kafka broker is there, in this protocol."""
    try:
        (await create_conn(place.host, place.port, **access.arguments())).close()
    except Exception:  # noqa: BLE001 - whatever it is, it is no broker's answer
        return False
    return True


async def _mechanisms(place: Place, access: Access) -> list[str] | None:
    """The logins that a listener takes; None where it takes none."""
    try:
        conn = await create_conn(
            place.host, place.port, **access.speaking(access.protocol.removeprefix("SASL_")).arguments()
        )
    except (errors.KafkaError, OSError):
        return None
    try:
        found = await conn.send(SaslHandShakeRequest(access.mechanism))
    except (errors.KafkaError, OSError):
        return None
    finally:
        conn.close()
    known = errors.for_code(found.error_code)
    return sorted(found.enabled_mechanisms) if known is not errors.IllegalSaslStateError else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
