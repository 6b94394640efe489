"""The client certificate of --cert: what can be used, and what is a mistake of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from helpers.probe import Probe

from common import FLEET
from livecheck.core.certificate import read_client_certificate

SECURE = "https://127.0.0.1:9"


@pytest.fixture(scope="module")
def leaf() -> trustme.LeafCert:
    return trustme.CA().issue_cert("client.example")


@pytest.fixture(autouse=True)
def files(leaf: trustme.LeafCert) -> None:
    """In the current folder: one file with both, one for each, and some that cannot be used."""
    key, chain = leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes()
    secret = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    other = trustme.CA().issue_cert("client.example").private_key_pem.bytes()
    contents = {"both": key + chain, "cert": chain, "key": key, "other": other, "empty": b""}
    contents |= {"secret": secret, "broken": chain[:200] + b"\n" + chain[-30:] + key}
    for name, content in contents.items():
        Path(name).write_bytes(content)


@pytest.mark.parametrize(("file", "key_file"), [("both", None), ("cert", "key"), ("both", "key")])
def test_a_certificate_and_its_key_come_in_one_file_or_two(file: str, key_file: str | None) -> None:
    assert read_client_certificate(file, key_file) == (file, key_file)


@pytest.mark.parametrize(
    ("file", "key_file", "says"),
    [
        ("missing", None, "No such file"),
        (".", None, "Is a directory"),
        ("empty", None, "no certificate in PEM form"),
        ("key", None, "no certificate in PEM form"),
        ("cert", None, "--cert-key FILE"),
        ("cert", "empty", "no private key"),
        ("cert", "missing", "No such file"),
        ("cert", "other", "the key does not belong"),
        ("cert", "secret", "the key is encrypted"),
        ("broken", None, "cannot use"),
        ("a\0b", None, "not a path"),
    ],
)
def test_a_file_that_cannot_be_used_is_exit_2_and_one_line(
    file: str, key_file: str | None, says: str, probe: Probe
) -> None:
    with pytest.raises(ValueError, match=says):
        read_client_certificate(file, key_file)
    key = ("--cert-key", key_file) if key_file else ()
    ended = probe(lambda run: None, "--cert", file, *key)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert "--cert" in ended.err and says in ended.err


def test_a_key_needs_its_certificate(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = probe(lambda run: None, "--cert-key", "key")
    assert (ended.code, "give --cert" in ended.err) == (2, True)
    monkeypatch.setenv("INFERENCE_CERT_KEY", "key")
    ended = probe(lambda run: None)
    assert (ended.code, "give INFERENCE_CERT" in ended.err) == (2, True)


def test_the_variables_of_the_deployment_name_it_too(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    Path(".env").write_text("SIMPLEAI_CERT=cert\nSIMPLEAI_CERT_KEY=key\n")
    monkeypatch.setenv("INFERENCE_CERT", "both")
    probe(lambda run: found.append(run.certificate))
    probe(lambda run: found.append(run.certificate), deployment=FLEET)
    probe(lambda run: found.append(run.certificate), "--cert", "both", deployment=FLEET)
    assert found == [("both", None), ("cert", "key"), ("both", None)]
