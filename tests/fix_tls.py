"""Certificates of the tests' own. openssl is there wherever ca-certificates is."""

import subprocess

import pytest

KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A folder: authorities `ca` and `other`; `broker` and `expired` for localhost, `stranger` for
    another host, `bridge` for a client, all signed by `ca`; NAME.pem and NAME.key.
    """
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(command):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl(f"req -x509 {KEY} -days 2 -keyout {name}.key -out {name}.pem -subj /CN={name}")
    for name, host, days in (
        ("broker", "localhost", 2),
        ("expired", "localhost", -1),
        ("stranger", "elsewhere.example", 2),
        ("bridge", "bridge.example", 2),
    ):
        alternative = f"-addext subjectAltName=DNS:{host}"
        openssl(f"req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name} {alternative}")
        signed = f"-CA ca.pem -CAkey ca.key -days {days} -copy_extensions copy"
        openssl(f"x509 -req -in {name}.csr {signed} -out {name}.pem")
    openssl("ec -in bridge.key -aes128 -passout pass:word -out encrypted.key")
    (folder / "no.pem").write_text("no certificate\n")
    return folder
