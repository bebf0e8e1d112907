"""Servers that behave as no HTTP server should, on real sockets."""

import ipaddress
import os
import socket
import ssl
import threading
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from recoup.database.models import now


@contextmanager
def black_hole():
    """Yield an address that no connection to it is ever made with, nor refused."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):  # what the backlog holds, and one more to be sure
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


@contextmanager
def talker(talk):
    """Yield the address of a server that calls `talk(connection)` for each, then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, talk), daemon=True)
        thread.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def _serve(listener, talk):
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(5)
                talk(connection)


def answer_with(data, *, endlessly=False):
    """Return a talk that reads a request and sends `data`, once or until nobody listens."""

    def talk(connection):
        connection.recv(65536)
        connection.sendall(data)
        while endlessly:
            connection.sendall(data)

    return talk


def break_encryption(context):
    """Return a talk that reads an encrypted request, and answers with what is no encryption."""

    def talk(connection):
        with context.wrap_socket(connection, server_side=True) as encrypted:
            encrypted.recv(65536)
            with socket.socket(fileno=os.dup(encrypted.fileno())) as bare:
                bare.sendall(b"this is no TLS record, nor the beginning of one")

    return talk


def make_certificate(folder):
    """Make a key and a certificate of 127.0.0.1 in one PEM file; return its path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return path


def server_context(certificate):
    """Return the TLS settings of a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class Proxy:
    """Passes TCP connections on to a port of this machine.

    `silence` keeps all answers back on those that are open: to their clients it is as if a
    firewall had forgotten them. What is connected afterwards works.
    """

    def __init__(self, port):
        self._port = port
        self._open = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self):
        """Say nothing more on the connections that are open."""
        for _, silent in self._open:
            silent.set()

    def close(self):
        """Close all connections, and take no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for ends, _ in self._open:
            for end in ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                silent = threading.Event()
                self._open.append(((client, server), silent))
                self._pass_on(client, server, threading.Event())
                self._pass_on(server, client, silent)

    def _pass_on(self, source, target, silent):
        def work():
            with source, suppress(OSError):
                while data := source.recv(65536):
                    if not silent.is_set():
                        target.sendall(data)
                target.shutdown(socket.SHUT_WR)

        threading.Thread(target=work, daemon=True).start()


def encrypt(standin, certificate):
    """Put a stand-in behind TLS; return its address."""
    server = standin._server
    server.socket = server_context(certificate).wrap_socket(server.socket, server_side=True)
    return standin.url.replace("http:", "https:")
