"""Bytes to and from the broker, over TCP or TLS. Only `open_link` waits.

TLS stands between two buffers in memory: what has come is taken from the system in one call, and
each of the broker's records, which hold a message each, then costs no call of the system.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Final, Protocol, cast

from ingest.mqtt.settings import MqttSettings, TlsSettings
from sizao import clock

CONNECT_S: Final = 5.0  # name resolution, TCP and TLS each
_CIPHER_BYTES: Final = 1 << 18  # taken from the system in one call
_PLAIN_BYTES: Final = 1 << 16  # encrypted in one go, so that little waits for a slow broker
_NOT_YET = (BlockingIOError, ssl.SSLWantReadError)


class Link(Protocol):
    """An open connection that never waits. Every failure is an OSError, the other end's goodbye a
    ConnectionError; afterwards it can only be closed.
    """

    @property
    def waiting(self) -> bool:
        """Whether bytes that `write` has taken are not sent yet: it goes on with them."""

    def read(self, into: memoryview) -> int:
        """Bytes that came; fewer than there is room for: there are no more now."""

    def write(self, data: bytes | bytearray) -> int:
        """How many of these bytes are on their way: all, some or none."""

    def close(self) -> None:
        """At once. What was not sent is gone."""


class TcpLink:
    """Without TLS."""

    waiting: Final = False

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)  # noqa: FBT003 - the standard library's way to say it
        self._socket = connected

    def read(self, into: memoryview) -> int:
        """See Link."""
        try:
            count = self._socket.recv_into(into)
        except BlockingIOError:
            return 0
        if not count:
            raise ConnectionError("the broker has closed the connection")
        return count

    def write(self, data: bytes | bytearray) -> int:
        """See Link."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """See Link."""
        self._socket.close()


class TlsLink:
    """With TLS; made when the handshake is done."""

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """Shakes hands, which waits for at most the socket's timeout for each answer, 5 s in all.

        Raises OSError.
        """
        self._socket = connected
        self._came, self._going = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._going, server_hostname=host)
        self._unsent = b""
        until_s = clock.monotonic_s() + CONNECT_S
        while not self._shaken():
            connected.sendall(self._going.read())
            if clock.monotonic_s() > until_s:
                raise TimeoutError("no answer in TLS")
            self._pull()
        connected.sendall(self._going.read())
        connected.setblocking(False)  # noqa: FBT003 - the standard library's way to say it

    @property
    def waiting(self) -> bool:
        """See Link."""
        return bool(self._unsent)

    def _shaken(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            self._send_alert()
            raise
        return True

    def _send_alert(self) -> None:
        """Tell the broker why, so that its log says it too."""
        try:
            self._socket.sendall(self._going.read())
        except OSError:
            return

    def _pull(self, *, quietly: bool = False) -> bool:
        """Take what the system has; False when that is nothing. `quietly`: a failure counts as
        nothing, and is told at the next call: what came before it is the broker's last word.
        """
        try:
            data = self._socket.recv(_CIPHER_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            if not quietly:
                raise
            return False
        if data:
            self._came.write(data)
        else:
            self._came.write_eof()
        return True

    def read(self, into: memoryview) -> int:
        """See Link."""
        count = 0
        while count < len(into):
            try:
                # Into a buffer it returns how many: typeshed says bytes for both.
                got = cast("int", self._tls.read(len(into) - count, into[count:]))
            except ssl.SSLWantReadError:
                if not self._pull(quietly=count > 0):
                    break
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                got = 0
            if not got:  # nothing when it said goodbye, an error when it just went
                if count:
                    break  # told at the next call
                raise ConnectionError("the broker has closed the connection")
            count += got
        return count

    def write(self, data: bytes | bytearray) -> int:
        """See Link."""
        self._send()
        taken = 0
        while taken < len(data) and not self._unsent:
            try:
                taken += self._tls.write(data[taken : taken + _PLAIN_BYTES])
            except ssl.SSLWantReadError:
                break
            self._send()
        return taken

    def _send(self) -> None:
        """Send what is encrypted, as far as the system takes it."""
        self._unsent += self._going.read()  # maybe an answer of TLS itself
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return

    def close(self) -> None:
        """See Link."""
        self._socket.close()


def open_link(settings: MqttSettings) -> Link:
    """Connect, and shake hands where TLS is set. Waits: for a thread.

    Raises OSError whose text names the setting to look at where that is known.
    """
    context = None if settings.tls is None else tls_context(settings.tls)
    connected = socket.create_connection((settings.host, settings.port), timeout=CONNECT_S)
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            return TcpLink(connected)
        return TlsLink(connected, context, settings.host)
    except ssl.SSLError as error:
        connected.close()
        raise ConnectionError(tls_fault(error, settings)) from error
    except BaseException:
        connected.close()
        raise


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """What is trusted, and who we are. Raises OSError that names the file."""
    ca = settings.ca_file
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ValueError) as error:
        raise _of_file("ca_file", ca, error, "holds no certificate") from error
    if settings.certificate_file is None or settings.key_file is None:
        return context
    for key in ("certificate_file", "key_file"):
        _readable(key, getattr(settings, key))
    try:
        # Without a password of ours OpenSSL would ask the terminal for one.
        context.load_cert_chain(settings.certificate_file, settings.key_file, password="")
    except (OSError, ValueError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            what = f"does not belong to certificate_file {settings.certificate_file}"
            raise _of_file("key_file", settings.key_file, error, what) from error
        what = f"or certificate_file {settings.certificate_file} is not PEM, or encrypted"
        raise _of_file("key_file", settings.key_file, error, what) from error
    return context


def _readable(key: str, path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise _of_file(key, path, error, "") from error


def _of_file(key: str, path: Path | None, error: Exception, what: str) -> OSError:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        what = error.strerror or str(error)  # it is not there, or not for us to read
    return OSError(f"mqtt.tls.{key}: {path}: {what}")


_HOST_MISMATCH, _EXPIRED = {62, 64}, {10}  # X509_V_ERR_* of OpenSSL


def tls_fault(error: ssl.SSLError, settings: MqttSettings) -> str:
    """In words, with the setting to look at."""
    text = str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"certificate verify failed: {error.verify_message}"
        if error.verify_code in _HOST_MISMATCH:
            return f"{text} (mqtt.host must be a name in the broker's certificate)"
        if error.verify_code in _EXPIRED:
            return f"{text} (the broker's certificate, or the clock of this machine)"
        return f"{text} (mqtt.tls.ca_file must hold the authority of the broker's certificate)"
    if error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
        return f"mqtt.port {settings.port} does not speak TLS: {text}"
    if isinstance(error, ssl.SSLEOFError):
        return f"the broker ended TLS at once; does mqtt.port {settings.port} speak it? ({text})"
    if "ALERT" in (error.reason or ""):
        return f"the broker refuses our certificate (mqtt.tls.certificate_file): {text}"
    return f"TLS: {text}"
