"""Who may use the control door: Host, Origin, proxies, tokens; and the headers of what is served."""

import subprocess

import pytest

from support.modules import wat_empty

TOKEN = "zasm_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"


def get(client, headers=None, path="/apps", method="GET", body=None):
    return client.request(method, path, body, headers=headers)


# --- on loopback --------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [
    "127.0.0.1", "127.0.0.1:1", "localhost", "LOCALHOST:8080", "[::1]", "[::1]:80",
    "127.1.2.3", "localhost.", "localhost.:8080"])
def test_own_hosts(client, host):
    assert get(client, {"Host": host}).status == 200


@pytest.mark.parametrize("host", [
    "example.org", "example.org:8080", "127.0.0.1.example.org", "localhost.example.org",
    "127.0.0.1x", "notlocalhost", "10.0.0.1", "[::2]", "0.0.0.0", "169.254.169.254", "127.0.0",
    "127.example.org", "localhost..", "example.org."])
def test_foreign_hosts(client, host):
    """DNS rebinding: a name that somebody pointed at loopback."""
    for method, path in (("GET", "/apps"), ("POST", "/run?name=x"), ("GET", "/"),
                         ("DELETE", "/apps/x"), ("PATCH", "/apps"), ("GET", "/nothing")):
        response = get(client, {"Host": host}, path, method)
        assert response.status == 421, response
        assert "Host" in response.text or "host" in response.text


def raw(client, head):
    with client.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(head)
        return stream.read().decode()


def test_no_host(client):
    """HTTP/1.0 may leave it out. Then nothing tells that the request is meant for this server."""
    client.create("unnamed", wat_empty())
    for head in (b"GET /apps HTTP/1.0\r\n\r\n", b"POST /run?name=unnamed HTTP/1.0\r\n\r\n",
                 b"GET /web/unnamed/ HTTP/1.0\r\n\r\n",
                 b"GET /apps HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n"):
        answer = raw(client, head)
        assert answer.startswith("HTTP/1.1 400 "), answer
        assert "send 'Host: localhost' here" in answer, answer
    assert client.get("/apps/unnamed/log").text == ""
    run = raw(client, b"POST /run?name=unnamed HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert run.startswith("HTTP/1.1 200 "), run
    assert raw(client, b"GET /healthz HTTP/1.0\r\n\r\n").startswith("HTTP/1.1 200 ")


def test_nothing_is_created_for_a_foreign_host(client):
    response = client.request("POST", "/create?name=smuggled", wat_empty(), headers={
        "Host": "evil.example"})
    assert response.status == 421
    assert client.get("/apps/smuggled").status == 404


def test_own_origin(client, server):
    for headers in ({"Origin": server.url}, {"Sec-Fetch-Site": "same-origin"},
                    {"Sec-Fetch-Site": "none"}, {}):
        assert get(client, headers).status == 200, headers


@pytest.mark.parametrize("headers", [
    {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1"},
    {"Origin": "http://localhost:1"}, {"Origin": ""}, {"Origin": "file://"},
    {"Origin": "ftp://127.0.0.1"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "x"}])
def test_foreign_origins(client, headers):
    for method in ("GET", "POST", "PUT", "DELETE"):
        response = get(client, headers, "/apps", method)
        assert response.status in (403, 405) and (headers == {"Origin": ""} or
                                                  response.status == 403), response


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "Via",
                                  "x-forwarded-proto", "VIA"])
def test_proxies_are_refused(client, name):
    response = get(client, {name: "1.1 proxy"})
    assert response.status == 403 and "--trust-proxy" in response.text


def test_health_needs_nothing(client):
    assert get(client, {"Host": "probe.example", "Via": "1.1 x"}, "/healthz").status == 200


def test_headers_of_what_is_served(client, guests):
    client.create("headers", guests.c("probe"))
    client.put("/apps/headers/files/page.html", b"<script>alert(1)</script>")
    for response in (client.get("/"), client.get("/apps"), client.get("/apps/headers/files/page.html"),
                     client.run("headers", "args", "<script>"), client.get("/apps/nobody"),
                     client.get("/apps/headers/config"), client.get("/apps/headers/log"),
                     client.get("/metrics")):
        assert response.headers["x-content-type-options"] == "nosniff", response.headers
        assert "sandbox" in response.headers["content-security-policy"], response.headers
        assert "access-control-allow-origin" not in response.headers


def test_a_domain(make_server):
    client = make_server("--domain", "cloud.example").client
    assert get(client, {"Host": "cloud.example"}).status == 200
    assert get(client, {"Host": "cloud.example:99"}).status == 200
    assert get(client, {"Host": "other.example"}).status == 421


# --- through a proxy ----------------------------------------------------------------------------


def test_a_trusted_proxy(make_server):
    client = make_server("--trust-proxy", "127.0.0.1", environment={"ZASM_TOKEN": TOKEN}).client
    assert get(client).status == 401  # not every proxy says that it is one
    assert get(client, {"Authorization": f"Bearer {TOKEN}"}).status == 200
    assert get(client, {"Via": "1.1 x"}).status == 401
    assert get(client, {"Via": "1.1 x", "Authorization": f"Bearer {TOKEN}"}).status == 200
    assert get(client, {"Via": "1.1 x", "Authorization": f"Bearer {TOKEN}x"}).status == 401


def test_another_proxy(make_server):
    client = make_server("--trust-proxy", "192.0.2.1", environment={"ZASM_TOKEN": TOKEN}).client
    response = get(client, {"Via": "1.1 x", "Authorization": f"Bearer {TOKEN}"})
    assert response.status == 403


# --- tokens -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(build, tmp_path_factory):
    """Listens on all addresses, so a token is needed; talked to over loopback."""
    from conftest import Server
    state = tmp_path_factory.mktemp("state") / "state"
    running = Server(build, state, listen="0.0.0.0:0", environment={"ZASM_TOKEN": TOKEN}).start()
    running.client.host = "127.0.0.1"
    yield running
    assert running.stop() == 0


def test_a_token_is_needed(guarded):
    response = get(guarded.client)
    assert response.status == 401 and "Bearer" in response.text
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("value", [
    "Bearer wrong", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Bearer {TOKEN.swapcase()}",
    f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer ", f"Bearer x {TOKEN}", f"Bearer {'x' * 5000}"])
def test_wrong_tokens(guarded, value):
    for method, path in (("GET", "/apps"), ("POST", "/create?name=x"), ("POST", "/run?name=x"),
                         ("PUT", "/apps/x/files/y"), ("DELETE", "/apps/x"), ("GET", "/metrics")):
        response = get(guarded.client, {"Authorization": value}, path, method)
        assert response.status == 401, response
        assert TOKEN not in response.text
    assert TOKEN not in guarded.read_log()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_right_token(guarded, scheme):
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    assert get(guarded.client, headers).status == 200
    assert get(guarded.client, {**headers, "Host": "whatever.example"}).status == 200
    response = guarded.client.post("/create?name=mine", wat_empty(), headers=headers)
    assert response.status in (200, 201)


def test_a_browser_can_not_use_the_token_from_elsewhere(guarded):
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "https://evil.example"}
    assert get(guarded.client, headers).status == 403


def test_health_needs_no_token(guarded):
    assert get(guarded.client, path="/healthz").status == 200


def test_no_start_without_a_token(make_server):
    with pytest.raises(RuntimeError, match="0asm token"):
        make_server(listen="0.0.0.0:0", environment={"ZASM_TOKEN": ""})
    with pytest.raises(RuntimeError, match="16"):
        make_server(listen="0.0.0.0:0", environment={"ZASM_TOKEN": "short"})


def test_a_token_made_by_the_command(make_server, build, tmp_path):
    state = tmp_path / "state"
    made = subprocess.run([build / "0asm", "token", "--state", state, "--comment", "of a test"],
                          capture_output=True, text=True)
    assert made.returncode == 0, made
    token = made.stdout.strip()
    assert token.startswith("zasm_") and len(token) == 48
    kept = (state / "tokens").read_text()
    assert token not in kept and "of a test" in kept
    assert (state / "tokens").stat().st_mode & 0o077 == 0
    server = make_server(listen="0.0.0.0:0", state=state, environment={"ZASM_TOKEN": ""})
    server.client.host = "127.0.0.1"
    assert get(server.client, {"Authorization": f"Bearer {token}"}).status == 200
    assert get(server.client, {"Authorization": f"Bearer {token[:-1]}"}).status == 401


def test_a_damaged_list_of_tokens(make_server, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "tokens").write_text("not a hash\n")
    with pytest.raises(RuntimeError, match="tokens"):
        make_server(listen="0.0.0.0:0", state=state)


def test_the_state_is_private(server):
    assert server.state.stat().st_mode & 0o077 == 0
    for path in server.state.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path
