"""TLS for a device whose clock may be years off, and what exactly stands in the way of it.

Certificates are checked as everywhere else: authority, host name, both dates. One date is different
on a board that wakes up in 1970. That a certificate "is not yet valid" is then said by the wrong
clock; an authority that is trusted has signed that the day has come. So a connection refused for
this alone is made again without the clock, and the certificate has to outlast the day this agent
was released. Every other fault stays a fault: a clock that is ahead makes certificates look
expired, and nobody trusted says otherwise.
"""

import logging
import ssl
import time
from datetime import UTC, datetime
from typing import Any

from edge_agent.exceptions import (
    CertificateError,
    ConfigurationError,
    TlsError,
    TransferError,
)
from edge_agent.version import RELEASED_ON

logger = logging.getLogger(__name__)

# openssl/x509_vfy.h; the ssl module has names for neither.
X509_V_FLAG_NO_CHECK_TIME = 0x200000
X509_V_ERR_CERT_NOT_YET_VALID = 9
X509_V_ERR_CERT_HAS_EXPIRED = 10
CLOCK_FAULTS = frozenset({X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED})

#: OpenSSL's reasons, and what they mean at the start of a connection.
REASONS = {
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS of version 1.2 or later",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it speaks no TLS of version 1.2 or later",
    "WRONG_VERSION_NUMBER": "it does not speak TLS at this port",
    "HTTP_REQUEST": "it does not speak TLS at this port",
}


def check_ca_file(path: str) -> None:
    """Refuses a bundle that no connection could be made with, by name.

    Raises:
        ConfigurationError: it cannot be read, or holds no certificate.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        raise ConfigurationError(f"[network] ca_file {path}: {error}") from error


def make_timeless_context(ca_file: str) -> ssl.SSLContext:
    """A context that checks all of a certificate but its dates."""
    from urllib3.util import create_urllib3_context

    context = create_urllib3_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    else:
        context.load_default_certs()
    context.verify_flags |= X509_V_FLAG_NO_CHECK_TIME
    return context


def is_clock_behind(error: ssl.SSLCertVerificationError) -> bool:
    """True when all that is wrong with a certificate is that this device's clock is before it."""
    return error.verify_code == X509_V_ERR_CERT_NOT_YET_VALID


def check_outlasts_release(certificate: Any, host: str) -> None:
    """Refuses a certificate, taken without the clock, that ended before this agent was released.

    Raises:
        CertificateError: its `notAfter` is before that day.
    """
    released = datetime.fromisoformat(RELEASED_ON).replace(tzinfo=UTC).timestamp()
    ends_at = ssl.cert_time_to_seconds(certificate["notAfter"])
    if ends_at < released:
        raise CertificateError(
            f"{host}: the server's certificate ended {certificate['notAfter']}, and this agent is "
            f"of {RELEASED_ON}"
        )
    logger.warning(
        "the certificate of %s begins %s, and this device's clock says %s: the clock is behind",
        host,
        certificate["notBefore"],
        format_clock(),
    )


def explain(error: BaseException, doing: str) -> TransferError:
    """The error to raise for one of urllib3: which part of TLS failed, and why.

    Args:
        doing: what was tried, as `GET host:port`.
    """
    cause = find_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        words = str(cause.verify_message).rstrip(".")
        if cause.verify_code in CLOCK_FAULTS:
            words += f", by this device's clock, which says {format_clock()}"
        return CertificateError(f"{doing}: the server's certificate is refused: {words}")
    if isinstance(cause, ssl.SSLError):
        words = REASONS.get(str(getattr(cause, "reason", "")), "")
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            words = "the connection was cut in the middle of it"
        return TlsError(f"{doing}: the TLS handshake failed: {words or cause}")
    return TransferError(f"{doing}: {error}")


def find_cause(error: BaseException) -> BaseException | None:
    """The ssl module's error within one of urllib3, or None."""
    from urllib3.exceptions import MaxRetryError, SSLError

    if isinstance(error, MaxRetryError):
        error = error.reason or error
    if isinstance(error, SSLError) and error.args and isinstance(error.args[0], ssl.SSLError):
        return error.args[0]
    return error if isinstance(error, ssl.SSLError) else None


def format_clock() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
