"""What can go wrong with events, in the terms of the one tree of errors."""

from __future__ import annotations

from ingest.errors.base import IngestError
from ingest.errors.exit_codes import ExitCode


class BrokerError(IngestError):
    """Kafka's side failed."""

    code = "broker"
    exit_code = ExitCode.SOURCE
    hint = "Check KAFKA_BOOTSTRAP_SERVERS, and that the broker is up; nothing is lost: offsets stay where they were."


class BrokerRefused(BrokerError):
    """The broker answered, and does not let us in."""

    code = "broker_refused"
    hint = "Check KAFKA_SECURITY_PROTOCOL, the KAFKA_SASL_* settings, and what this user may read and write."


class BrokerUntrusted(BrokerRefused):
    """TLS with the broker failed: its certificate, or ours, is not accepted, or only one side speaks TLS."""

    code = "broker_tls"
    hint = "Compare KAFKA_SECURITY_PROTOCOL, KAFKA_CA_BUNDLE and KAFKA_CLIENT_CERT with the broker's listener."


class TopicMissing(BrokerError):
    """The broker has no topic of this name. Reading never makes one."""

    code = "topic_missing"
    hint = "Check KAFKA_TOPIC, or create the topic; nothing else is read in its place."


class DeadLetterRefused(BrokerError):
    """The topic of dead letters takes nothing from us. No error of a run: what was given up is kept in the catalog."""

    code = "dead_letter_refused"
    hint = "Create KAFKA_DEAD_LETTER_TOPIC, and let us write to it; until then, `ingest deadletters list` has them all."


class Poison(IngestError):
    """A message that can never be read, whatever is done; `reason` names why in one word."""

    code = "poison"
    hint = "Look at it with `ingest deadletters list --json`; what sends such messages has to change."

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class MessagesLost(IngestError):
    """The topic kept its messages for less long than nobody read them: some are gone for good. The rest is done."""

    code = "messages_lost"
    exit_code = ExitCode.PARTIAL
    hint = (
        "`ingest sync` finds what they announced. Let the topic keep its messages for longer (retention.ms); "
        "`ingest deadletters list` shows which are missing."
    )


class MessagesDied(IngestError):
    """Some messages were given up; everything else is done."""

    code = "dead_letters"
    exit_code = ExitCode.PARTIAL
    hint = "See `ingest deadletters list`, mend the cause, and run `ingest deadletters retry --all`."
