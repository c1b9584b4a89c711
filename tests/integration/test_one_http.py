"""One rule for whoever speaks HTTP: proxies, certificates of either side, logins, redirects, the environment of AWS."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ingest import errors
from ingest.errors import ExitCode, IngestError
from ingest.source.client import S3Client
from ingest.testing.raw_server import Visit, raw_server
from tests.fixtures.clients import CLIENTS, KEYS, Client, NotAnsweredError, answering, forward_proxy, settings
from tests.fixtures.clients import without_proxies as proxies_of
from tests.fixtures.mutual_tls import mutual_server

every_client = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
LOGIN = "Basic bWU6Y2FuYXJ5"  # me:canary


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in proxies_of(os.environ):
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; server.pem for 127.0.0.1 and localhost; ours.pem, others.pem (of another authority)."""
    place = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(place / "ca.pem"))
    for name, issuer, identity in (
        ("server", ca, ("127.0.0.1", "localhost")),
        ("ours", ca, ("ingest@example.com",)),
        ("others", trustme.CA(), ("mallory@example.com",)),
    ):
        issuer.issue_cert(*identity).private_key_and_cert_chain_pem.write_to_path(str(place / f"{name}.pem"))
    return place


def server_side(files: Path, *, asks: bool = False, most: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files / "server.pem")
    if asks:
        context.load_verify_locations(files / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    if most is not None:
        context.maximum_version = most
    return context


# Proxies.

PLAIN, TLS = "HTTP_PROXY", "HTTPS_PROXY"


@every_client
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("named", "excluded", "through"),
    [
        (f"{PLAIN} {TLS}", {}, True),
        (f"{PLAIN} {TLS}".lower(), {}, True),
        ("ALL_PROXY", {}, True),
        ("all_proxy", {}, True),
        (f"{PLAIN} {TLS}", {"NO_PROXY": "127.0.0.0/8"}, False),
        (f"{PLAIN} {TLS}", {"no_proxy": "other.example.com, 127.0.0.1"}, False),
        (f"{PLAIN} {TLS}", {"NO_PROXY": "127.0.0.1:{port}"}, False),
        (f"{PLAIN} {TLS}", {"NO_PROXY": "127.0.0.1:1"}, True),
        (f"{PLAIN} {TLS}", {"NO_PROXY": "10.0.0.0/8,localhost,.example.com"}, True),
        (f"{PLAIN} {TLS}", {"NO_PROXY": "*"}, False),
        (f"{PLAIN} {TLS}", {"NO_PROXY": "*", "no_proxy": "elsewhere"}, True),
        ("ALL_PROXY", {"NO_PROXY": "127.0.0.0/8"}, False),
    ],
)
async def test_which_requests_go_by_a_proxy(
    client: Client,
    scheme: str,
    named: str,
    excluded: dict[str, str],
    through: bool,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        answering(server_side(files) if scheme == "https" else None) as server,
        forward_proxy(server.port) as proxy,
    ):
        for name, value in (proxy.variables(named, "me:canary@") | excluded).items():
            monkeypatch.setenv(name, value.replace("{port}", str(server.port)))
        await client(settings(f"{scheme}://127.0.0.1:{server.port}", ca_bundle=files / "ca.pem"))
        assert len(proxy.heads) == int(through)
        assert len(server.heads) == int(not through or scheme == "https")
    for head in proxy.heads:
        expected = b"CONNECT 127.0.0.1:" if scheme == "https" else b" http://127.0.0.1:"
        assert expected in head
        assert LOGIN in head.decode()
    assert not [head for head in server.heads if b"roxy-" in head], "the proxy's login is for the proxy alone"


@every_client
@pytest.mark.parametrize("host", ["minio.example.com", "minio.example.com."])
async def test_a_name_is_left_to_the_proxy_to_resolve(
    client: Client, host: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with answering() as server, forward_proxy(server.port) as proxy:
        for name, value in proxy.variables("HTTP_PROXY").items():
            monkeypatch.setenv(name, value)
        await client(settings(f"http://{host}:9000"))
        (head,) = proxy.heads
    assert f" http://{host}:9000/".encode() in head
    assert f"host: {host}:9000\r\n".encode() in head.lower()


async def test_a_bucket_in_the_hosts_name_is_asked_there_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual-hosted addressing: only the list of all buckets is asked of the endpoint itself."""
    async with answering() as server, forward_proxy(server.port) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        told = settings("http://MinIO.example.com", addressing_style="virtual")
        await CLIENTS["bucket"](told)
        await CLIENTS["clock"](told)
        async with S3Client(told) as client:
            await client.put("loans/a b.pdf", b"x")
            await client.delete("loans/a b.pdf")
            assert await client.bucket_exists()
            assert await client.list_buckets() == ["statements"]
        asked = [head.split(b" ")[1].partition(b"?")[0].decode() for head in proxy.heads]
    own, bucket = "http://minio.example.com", "http://statements.minio.example.com"
    assert asked == [f"{bucket}/", f"{bucket}/", *[f"{bucket}/loans/a%20b.pdf"] * 2, f"{bucket}/", f"{own}/"]


@every_client
@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://127.0.0.1:0", "http://"])
async def test_a_proxy_that_cannot_be_used_is_named(client: Client, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", url)
    with pytest.raises(errors.SettingsError, match="ALL_PROXY"):
        await client(settings("http://127.0.0.1:9"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with answering() as server:
        await client(settings(f"http://127.0.0.1:{server.port}"))


@every_client
async def test_a_proxy_that_refuses_is_named_with_what_to_do(
    client: Client, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server(lambda visit: visit.answer(status="407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises((IngestError, NotAnsweredError)) as raised:
            await client(settings("https://minio.example.com", ca_bundle=files / "ca.pem"))
    if isinstance(raised.value, IngestError):
        assert "407" in raised.value.message
        assert "NO_PROXY" in raised.value.hint


# Logins.


@every_client
@pytest.mark.parametrize("proxied", [False, True])
async def test_netrc_is_never_read(
    client: Client, proxied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".netrc", "_netrc", "elsewhere"):
        (tmp_path / name).write_text("default login someone password canary-netrc\n")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "elsewhere"))
    async with answering() as server, forward_proxy(server.port) as proxy:
        if proxied:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        await client(settings(f"http://127.0.0.1:{server.port}"))
        heads = [*server.heads, *proxy.heads]
    assert heads
    assert not [head for head in heads if b"basic" in head.lower()]


@every_client
async def test_a_redirect_is_not_followed(client: Client) -> None:
    async with answering() as other:

        async def redirect(visit: Visit) -> None:
            await visit.answer(status="307 Temporary Redirect", headers=f"Location: http://localhost:{other.port}/\r\n")

        async with raw_server(redirect) as server:
            with pytest.raises((errors.RedirectRefused, errors.EndpointRedirects, NotAnsweredError)):
                await client(settings(f"http://127.0.0.1:{server.port}"))
            assert server.heads
        assert other.connections == 0


# Certificates.


@every_client
@pytest.mark.parametrize(
    ("host", "trusted"), [("127.0.0.1", True), ("localhost", True), ("127.0.0.1", False), ("127.0.0.2", True)]
)
async def test_who_is_trusted(client: Client, host: str, trusted: bool, files: Path) -> None:
    async with answering(server_side(files)) as server:
        told = settings(
            f"https://{host}:{server.port}", **({"ca_bundle": files / "ca.pem"} if trusted else {"ca_bundle": None})
        )
        if trusted and host != "127.0.0.2":
            await client(told)
            assert server.heads
            return
        unreachable = (errors.ConnectionRefused, errors.EndpointUnreachable)  # 127.0.0.2, where nobody listens
        with pytest.raises((errors.TlsError, errors.EndpointUntrusted, *unreachable, NotAnsweredError)):
            await client(told)
        assert server.heads == []


def _authority_without_extensions(place: Path) -> None:
    """As companies have them: neither key usage nor key identifiers, which Python 3.13 began to insist on."""
    now = datetime.now(UTC)

    def made(name: str, issuer: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey) -> bytes:
        subject, authority = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer))
        builder = x509.CertificateBuilder(authority, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        if name == issuer:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=False)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (place / "ca.pem").write_bytes(made("company", "company", root, root))
    key = leaf.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (place / "server.pem").write_bytes(key + made("localhost", "company", leaf, root))


@every_client
@pytest.mark.parametrize("named_by", ["bundle", "SSL_CERT_FILE"])
async def test_an_authority_without_extensions_is_trusted_by_all(
    client: Client, named_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _authority_without_extensions(tmp_path)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere.pem"))
    if named_by == "SSL_CERT_FILE":
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with answering(server_side(tmp_path)) as server:
        bundle = tmp_path / "ca.pem" if named_by == "bundle" else None
        await client(settings(f"https://localhost:{server.port}", ca_bundle=bundle))


@every_client
@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shown", ["ours", "others", None])
async def test_a_server_that_asks_who_we_are(client: Client, most: ssl.TLSVersion, shown: str, files: Path) -> None:
    with mutual_server(server_side(files, asks=True, most=most)) as server:
        certificate = files / f"{shown}.pem" if shown else None
        told = settings(f"https://127.0.0.1:{server.port}", ca_bundle=files / "ca.pem", client_cert=certificate)
        if shown == "ours":
            await client(told)
            assert len(server.heads) == 1
            return
        with pytest.raises((IngestError, NotAnsweredError)) as raised:
            await client(told)
        assert server.heads == []
    if isinstance(raised.value, IngestError):  # also where the alert is lost with the connection
        assert "CLIENT_CERT" in raised.value.hint
        assert raised.value.exit_code is ExitCode.SOURCE


# The environment of AWS: with keys in the settings, none of it counts.


@pytest.fixture
def broken_config(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text("[default\nthis is no = file [ of that kind\n")
    return path


@pytest.fixture
def odd_config(tmp_path: Path) -> Path:
    path = tmp_path / "odd"
    path.write_text(
        "[default]\nregion = mars-1\nretry_mode = bogus\nuse_fips_endpoint = true\nendpoint_url = http://127.0.0.1:1\n"
        "ca_bundle = /nowhere.pem\ns3 =\n  use_accelerate_endpoint = true\n  addressing_style = virtual\n"
    )
    return path


@pytest.fixture(
    params=[
        {"AWS_PROFILE": "nosuch"},
        {"AWS_DEFAULT_PROFILE": "nosuch"},
        {"AWS_CONFIG_FILE": "{broken}"},
        {"AWS_SHARED_CREDENTIALS_FILE": "{broken}"},
        {"AWS_CONFIG_FILE": "{odd}"},
        {"AWS_MAX_ATTEMPTS": "many", "AWS_RETRY_MODE": "bogus"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"},
        {"AWS_CA_BUNDLE": "/nowhere.pem"},
        {"AWS_DEFAULTS_MODE": "bogus"},
        {"AWS_REQUEST_CHECKSUM_CALCULATION": "bogus", "AWS_RESPONSE_CHECKSUM_VALIDATION": "bogus"},
        {"AWS_REGION": "mars-1", "AWS_DEFAULT_REGION": "mars-1"},
        {"AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "other", "AWS_SESSION_TOKEN": "other"},
        {"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "bogus", "AWS_S3_USE_ARN_REGION": "bogus"},
        {"AWS_DATA_PATH": "/nowhere", "AWS_ACCOUNT_ID_ENDPOINT_MODE": "bogus", "AWS_SIGV4A_SIGNING_REGION_SET": "x"},
    ],
    ids="+".join,
)
def environment_of_aws(
    request: pytest.FixtureRequest, broken_config: Path, odd_config: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    variables = {
        name: value.format(broken=broken_config, odd=odd_config) for name, value in dict(request.param).items()
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@every_client
async def test_what_aws_is_told_is_nothing_to_those_who_have_keys(
    client: Client, environment_of_aws: dict[str, str]
) -> None:
    assert environment_of_aws
    async with answering() as server:
        await client(settings(f"http://127.0.0.1:{server.port}"))
        (head,) = server.heads
    assert b"mars-1" not in head
    assert b"other" not in head


@pytest.mark.parametrize(
    "answered",
    [
        b"{}",
        b"[]",
        b"no JSON",
        b'{"AccessKeyId": 1, "SecretAccessKey": "s", "Token": "t", "Expiration": "2030-01-01T00:00:00Z"}',
        b'{"AccessKeyId": "k", "SecretAccessKey": "s", "Token": "t", "Expiration": null}',
    ],
)
async def test_a_provider_that_answers_something_else_is_named(
    answered: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_server(lambda visit: visit.answer(answered)) as provider:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{provider.port}/")
        with pytest.raises(errors.CredentialsError, match="chain failed"):
            await CLIENTS["bucket"](settings("http://127.0.0.1:9", **dict.fromkeys(KEYS)))


@pytest.mark.parametrize("client", [CLIENTS["bucket"], CLIENTS["control plane"]], ids=["bucket", "control plane"])
@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_PROFILE": "nosuch"},
        {"AWS_CONFIG_FILE": "{broken}"},
        {"AWS_SHARED_CREDENTIALS_FILE": "{broken}"},
        {"AWS_ACCESS_KEY_ID": "half"},
        {"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/"},
        {"AWS_METADATA_SERVICE_TIMEOUT": "soon"},
        {},
    ],
    ids=lambda variables: "+".join(variables) or "nothing",
)
async def test_without_keys_what_is_wrong_with_the_chain_is_said(
    client: Client, variables: dict[str, str], broken_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(broken=broken_config))
    told = settings("http://127.0.0.1:9", **dict.fromkeys(KEYS))
    with pytest.raises(errors.CredentialsError) as raised:
        await client(told)
    assert raised.value.exit_code is ExitCode.SOURCE
    assert "chain" in raised.value.message
