"""Key pairs, against what ssh-keygen and openssl make and say of them."""

import base64
import hashlib
import pathlib
import shutil
import subprocess

import pytest

from conftest import refused

pytestmark = pytest.mark.skipif(
    not (shutil.which("ssh-keygen") and shutil.which("openssl")), reason="needs ssh-keygen and openssl"
)


def run(*command, **more) -> bytes:
    return subprocess.run(command, capture_output=True, check=True, **more).stdout


@pytest.fixture
def made(tmp_path):
    """made(type, bits): a private key's file, made by ssh-keygen; the public one is beside it."""

    def made(*options) -> pathlib.Path:
        path = tmp_path / "key"
        run("ssh-keygen", "-q", "-N", "", "-C", "of the client", "-f", str(path), *options)
        return path

    return made


def saved(folder: pathlib.Path, material: str) -> pathlib.Path:
    path = folder / "created.pem"
    path.write_text(material)
    path.chmod(0o600)
    return path


def test_rsa_is_the_default(ec2, tmp_path):
    answer = ec2.create_key_pair(KeyName="rsa")
    assert answer["KeyMaterial"].startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    path = saved(tmp_path, answer["KeyMaterial"])
    assert b"2048 bit" in run("openssl", "rsa", "-in", path, "-noout", "-text")
    der = run("openssl", "pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in", path)
    assert answer["KeyFingerprint"].replace(":", "") == hashlib.sha1(der).hexdigest()
    (shown,) = ec2.describe_key_pairs(KeyNames=["rsa"], IncludePublicKey=True)["KeyPairs"]
    assert (shown["KeyType"], shown["KeyFingerprint"]) == ("rsa", answer["KeyFingerprint"])
    public = run("ssh-keygen", "-y", "-f", path).decode().split()[:2]
    assert shown["PublicKey"].split() == [*public, "rsa"]


def test_ed25519(ec2, tmp_path):
    answer = ec2.create_key_pair(KeyName="ed25519", KeyType="ed25519")
    assert answer["KeyMaterial"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    said = run("ssh-keygen", "-lf", saved(tmp_path, answer["KeyMaterial"])).decode().split()[1]
    assert said == "SHA256:" + answer["KeyFingerprint"].rstrip("=")
    assert len(base64.b64decode(answer["KeyFingerprint"])) == 32


def test_an_imported_rsa_key_in_every_form_is_one_key(ec2, made):
    path = made("-t", "rsa", "-b", "2048")
    public = path.with_suffix(".pub")
    pem = run("ssh-keygen", "-e", "-m", "PKCS8", "-f", public)
    der = run("openssl", "pkey", "-pubin", "-outform", "DER", input=pem)
    forms = {
        "openssh": public.read_bytes(),
        "der": base64.b64encode(der),
        "rfc4716": run("ssh-keygen", "-e", "-m", "RFC4716", "-f", public),
    }
    for name, material in forms.items():
        answer = ec2.import_key_pair(KeyName=f"import {name}", PublicKeyMaterial=material)
        assert answer["KeyFingerprint"].replace(":", "") == hashlib.md5(der).hexdigest(), name
        (shown,) = ec2.describe_key_pairs(KeyNames=[f"import {name}"], IncludePublicKey=True)["KeyPairs"]
        assert shown["PublicKey"].split()[:2] == public.read_text().split()[:2]


def test_an_imported_ed25519_key(ec2, made):
    path = made("-t", "ed25519")
    answer = ec2.import_key_pair(KeyName="import-ed25519", PublicKeyMaterial=path.with_suffix(".pub").read_bytes())
    said = run("ssh-keygen", "-lf", path).decode().split()[1]
    assert said == "SHA256:" + answer["KeyFingerprint"].rstrip("=")


def test_keys_that_are_not_taken(ec2, made):
    private = made("-t", "ecdsa")
    for material in (private.with_suffix(".pub").read_bytes(), private.read_bytes(), b"nonsense", b"ssh-rsa AAAA"):
        with refused("InvalidKey.Format"):
            ec2.import_key_pair(KeyName="wrong", PublicKeyMaterial=material)
    with refused("UnsupportedOperation", "KeyFormat"):
        ec2.create_key_pair(KeyName="wrong", KeyFormat="ppk")
    with refused("InvalidParameterValue"):
        ec2.create_key_pair(KeyName="wrong", KeyType="dsa")
    with refused("InvalidKeyPair.NotFound"):
        ec2.describe_key_pairs(KeyNames=["wrong"])


def test_names_are_unique_and_plain(ec2):
    ec2.create_key_pair(KeyName="unique", KeyType="ed25519")
    with refused("InvalidKeyPair.Duplicate", "unique"):
        ec2.create_key_pair(KeyName="unique", KeyType="ed25519")
    for name in ("", " x", "é", "a\nb", "x" * 256):
        with refused("InvalidParameterValue"):
            ec2.create_key_pair(KeyName=name, KeyType="ed25519")


def test_deleting_by_name_and_by_id_and_what_is_not_there(ec2):
    first = ec2.create_key_pair(KeyName="first", KeyType="ed25519")["KeyPairId"]
    second = ec2.create_key_pair(KeyName="second", KeyType="ed25519")["KeyPairId"]
    assert ec2.delete_key_pair(KeyName="first")["KeyPairId"] == first
    assert ec2.delete_key_pair(KeyPairId=second)["Return"] is True
    assert ec2.delete_key_pair(KeyName="first")["Return"] is True
    assert ec2.delete_key_pair(KeyPairId=second)["Return"] is True
    with refused("InvalidKeyPairId.Malformed"):
        ec2.delete_key_pair(KeyPairId="second")
    with refused("MissingParameter"):
        ec2.delete_key_pair()


def test_describing(ec2):
    tags = [{"ResourceType": "key-pair", "Tags": [{"Key": "for", "Value": "describing"}]}]
    made = ec2.create_key_pair(KeyName="described", KeyType="ed25519", TagSpecifications=tags)

    def names(**wish):
        return [pair["KeyName"] for pair in ec2.describe_key_pairs(**wish)["KeyPairs"]]

    assert names(KeyPairIds=[made["KeyPairId"]]) == ["described"]
    assert names(Filters=[{"Name": "tag:for", "Values": ["describing"]}]) == ["described"]
    assert names(Filters=[{"Name": "fingerprint", "Values": [made["KeyFingerprint"]]}]) == ["described"]
    assert names(Filters=[{"Name": "key-name", "Values": ["descr*"]}]) == ["described"]
    assert names() == sorted(names())
    (pair,) = ec2.describe_key_pairs(KeyNames=["described"])["KeyPairs"]
    assert pair["Tags"] == made["Tags"] == [{"Key": "for", "Value": "describing"}]
    assert "PublicKey" not in pair and pair["CreateTime"]
    with refused("InvalidKeyPair.NotFound", "nobody's"):
        names(KeyNames=["described", "nobody's"])


def test_dry_runs(ec2):
    with refused("DryRunOperation", status=412):
        ec2.create_key_pair(KeyName="dry", KeyType="ed25519", DryRun=True)
    with refused("InvalidKeyPair.NotFound"):
        ec2.describe_key_pairs(KeyNames=["dry"])
    ec2.create_key_pair(KeyName="kept", KeyType="ed25519")
    with refused("DryRunOperation", status=412):
        ec2.delete_key_pair(KeyName="kept", DryRun=True)
    assert ec2.describe_key_pairs(KeyNames=["kept"])["KeyPairs"]
