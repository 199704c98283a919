"""A certificate of its own authority for one address of this machine, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deploy.local.failure import ServerError
from deploy.local.places import User, find_program, hand_over

DAYS = 30
_OPENSSL_S = 60


def certificate(folder: Path, address: str, user: User | None) -> tuple[Path, Path]:
    """Files of a self-signed certificate and of its key, for a server that runs as `user`.

    Whoever has the certificate as its authority trusts the server. Raises ServerError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.new"
    words += f" -out certificate.new -days {DAYS} -subj /CN={address}"
    words += f" -addext subjectAltName=IP:{address}"
    openssl = find_program("openssl")
    done = subprocess.run(
        [openssl, *words.split()],
        cwd=folder, capture_output=True, text=True, timeout=_OPENSSL_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ServerError(f"openssl made no certificate: {done.stderr}", where=str(folder))
    made = []
    for name in ("certificate", "key"):
        new, file = folder / f"{name}.new", folder / f"{name}.pem"
        hand_over(file, new.read_text("ascii"), user)
        new.unlink()
        made.append(file)
    return made[0], made[1]
