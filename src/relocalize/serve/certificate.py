"""A certificate that this machine signs itself, because phones give the camera to https alone."""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Apple's devices take no certificate of more than 398 days (since iOS 13).
_VALID = datetime.timedelta(days=397)


@dataclass(frozen=True)
class Certificate:
    """Files in PEM format."""

    certificate: Path  # which browsers may be told to trust
    key: Path  # which nobody else may read


def self_signed(folder: Path, addresses: list[str]) -> Certificate:
    """A certificate for this machine's names and ``addresses``, in an own ``folder``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relocalize serve")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName(socket.gethostname())]
    names += [x509.IPAddress(ipaddress.ip_address(one)) for one in ("127.0.0.1", *addresses)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    found = Certificate(folder / "certificate.pem", folder / "key.pem")
    found.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    with os.fdopen(os.open(found.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return found


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses in its network, the one that leads out of it first."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # documentation's address (RFC 5737): nothing is sent
            found.append(probe.getsockname()[0])
        except OSError:
            pass  # not in a network
    try:
        of_name = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    except OSError:
        of_name = []
    found += [str(row[4][0]) for row in of_name]
    return [one for one in dict.fromkeys(found) if not one.startswith("127.")]
