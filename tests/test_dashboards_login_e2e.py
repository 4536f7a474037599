"""Logging in with an OpenID Connect provider: a real one, small and on this machine, and a real browser."""

import json
import shutil
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlparse

import pytest
from click.testing import CliRunner
from dashboard_browser import chromium, serving, until_drawn
from dashboard_records import partial

from dashboards.cli import dash
from palate.errors import ConfigError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
if not shutil.which("chromium") or not shutil.which("chromedriver"):
    pytest.skip("there is no Chromium (Debian: apt-get install chromium chromium-driver)", allow_module_level=True)
pytest.importorskip("selenium")
pytest.importorskip("authlib", reason="pip install 'palate[dash]'")


class Provider(BaseHTTPRequestHandler):
    """Lets in `address` without asking: authorisation code flow, RS256."""

    address, verified = "ann@studio.org", True
    nonce = ""

    def do_GET(self) -> None:
        asked, query = urlparse(self.path), parse_qs(urlparse(self.path).query)
        if asked.path == "/authorize":
            type(self).nonce = query["nonce"][0]
            back = urlencode({"code": "good", "state": query["state"][0]})
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri'][0]}?{back}")
            self.end_headers()
        elif asked.path == "/keys":
            self._say({"keys": [KEY.as_dict(private=False)]})
        else:
            base = f"http://{self.headers['Host']}"
            places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
            algorithms = {"id_token_signing_alg_values_supported": ["RS256"]}
            self._say({"issuer": base, **{name: f"{base}/{place}" for name, place in places.items()}, **algorithms})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        basic = self.headers.get("Authorization", "").removeprefix("Basic ")
        if b64decode(basic) != b"palate:secret" or form["code"] != ["good"]:
            self._say({"error": "invalid_grant"}, 400)
            return
        now, base = int(time.time()), f"http://{self.headers['Host']}"
        claims = {"iss": base, "aud": "palate", "sub": "1", "iat": now, "exp": now + 600, "nonce": self.nonce}
        claims |= {"email": self.address, "email_verified": self.verified}
        token = jwt.encode({"alg": "RS256", "kid": KEY.kid}, claims, KEY)
        self._say({"access_token": "a", "token_type": "Bearer", "expires_in": 600, "id_token": token})

    def _say(self, content: dict[str, object], status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: object) -> None:
        pass


from joserfc import jwt  # noqa: E402 (comes with authlib)
from joserfc.jwk import RSAKey  # noqa: E402

KEY = RSAKey.generate_key(2048, parameters={"kid": "one", "use": "sig"})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("login")
    partial(str(folder / "palate.db"))
    provider = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    (folder / "login.toml").write_text(f"""
        [auth]
        redirect_uri = "http://127.0.0.1:{{port}}/oauth2callback"
        cookie_secret = "{"0123456789abcdef" * 3}"
        client_id = "palate"
        client_secret = "secret"
        server_metadata_url = "http://127.0.0.1:{provider.server_port}/.well-known/openid-configuration"
        [palate]
        visitors = ["@studio.org"]
    """)
    with serving(str(folder / "palate.db"), "--login", str(folder / "login.toml")) as url:
        yield url
    provider.shutdown()


@pytest.mark.parametrize(
    ("address", "verified", "said"),
    [
        ("ann@studio.org", True, "The loop, step by step"),
        ("ann@studio.org", False, "may not look at this record"),
        ("ann@elsewhere.org", True, "ann@elsewhere.org may not look at this record"),
        ("ann@studio.org.elsewhere.org", True, "may not look at this record"),
    ],
)
def test_whoever_the_provider_knows_and_the_list_has_is_let_in(
    base: str, address: str, verified: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.wait import WebDriverWait

    monkeypatch.setattr(Provider, "address", address)
    monkeypatch.setattr(Provider, "verified", verified)
    with chromium() as browser:
        browser.get(base)
        until_drawn(browser, time.monotonic())
        body = browser.find_element("css selector", "body")
        assert "Log in" in body.text
        assert "toy" not in body.text
        assert "The loop" not in body.text
        browser.find_element("css selector", "[data-testid=stButton] button").click()
        # pages come and go meanwhile, and between two of them there is nothing to read
        wait = WebDriverWait(browser, 90, 0.5, ignored_exceptions=[WebDriverException])
        wait.until(lambda page: said in page.find_element("css selector", "body").text)
        assert ("The loop" in browser.find_element("css selector", "body").text) == (said == "The loop, step by step")


@pytest.mark.parametrize("text", ["", "[auth", "auth = 1"])
def test_a_file_that_nobody_could_log_in_with_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "login.toml").write_text(text)
    partial(str(tmp_path / "palate.db"))
    told = ["--store", str(tmp_path / "palate.db"), "--login", str(tmp_path / "login.toml")]
    assert isinstance(CliRunner().invoke(dash, told).exception, ConfigError)
