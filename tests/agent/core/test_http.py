"""The pages for probes: what they answer, and what nobody can do to them."""

import http.client
import logging
import socket
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from edge_agent.core import http as pages
from edge_agent.core.http import MAX_CONNECTIONS, HttpServer, Reply, verdict
from tests.agent.app.test_threads import wait_until


def broken(_: object) -> Reply:
    raise RuntimeError("secret detail")


@pytest.fixture
def server() -> Iterator[HttpServer]:
    made = HttpServer(
        "127.0.0.1",
        0,
        {
            "/livez": lambda _: verdict({}),
            "/readyz": lambda _: verdict({"database": "away"}),
            "/echo": lambda headers: Reply(body=headers["x-word"].encode()),
            "/broken": broken,
        },
    )
    made.start()
    yield made
    made.stop()


def ask(server: HttpServer, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def raw(server: HttpServer, data: bytes) -> bytes:
    """All that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def test_a_page_is_found_by_its_path_whatever_follows_the_question_mark(server: HttpServer) -> None:
    assert ask(server, "/livez") == (200, b'{"status": "ok", "problems": {}}\n')
    assert ask(server, "/livez?verbose=1")[0] == 200
    assert ask(server, "/echo", **{"X-Word": "tide"}) == (200, b"tide")


def test_what_is_wrong_is_named_with_status_503(server: HttpServer) -> None:
    assert ask(server, "/readyz") == (503, b'{"status": "failing", "problems": {"database": "away"}}\n')


@pytest.mark.parametrize("path", ["/", "/livez/", "/../livez", "//livez", "/etc/passwd", "/%6civez", "/livez%00"])
def test_no_other_path_leads_anywhere(server: HttpServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"])
def test_nothing_but_reading_is_allowed(server: HttpServer, method: str) -> None:
    assert ask(server, "/livez", method)[0] == 405


def test_a_head_request_gets_no_body(server: HttpServer) -> None:
    assert ask(server, "/livez", "HEAD") == (200, b"")


@pytest.mark.parametrize(
    "text", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET /livez\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"GET /livez SIP/2.0\r\n\r\n"]
)
def test_what_is_no_request_is_refused(server: HttpServer, text: bytes) -> None:
    assert raw(server, text).startswith(b"HTTP/1.1 400 ")


def test_endless_headers_are_refused(server: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\n" + b"x: y\r\n" * 1500)
        assert connection.recv(100).startswith(b"HTTP/1.1 431 ")


def test_a_page_that_fails_tells_nothing_and_is_logged_once(server: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert ask(server, "/broken") == (500, b"Internal Server Error\n")
    assert [record.message for record in caplog.records] == ["page failed"]
    assert ask(server, "/livez")[0] == 200


def test_clients_that_say_nothing_keep_others_out_only_until_their_time_is_over(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "REQUEST_S", 0.5)
    silent = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(MAX_CONNECTIONS)]
    try:
        wait_until(lambda: raw(server, b"").startswith(b"HTTP/1.1 503 "))
        wait_until(lambda: _answers(server))
    finally:
        for connection in silent:
            connection.close()


def _answers(server: HttpServer) -> bool:
    try:
        return ask(server, "/livez")[0] == 200
    except OSError:  # turned away in the middle of the request
        return False


def test_a_client_that_hangs_up_at_any_moment_harms_nobody(server: HttpServer) -> None:
    for length in range(0, 30, 3):
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"[:length])
    wait_until(lambda: _answers(server))


def test_a_port_in_use_is_an_error(server: HttpServer) -> None:
    with pytest.raises(OSError, match="in use"):
        HttpServer("127.0.0.1", server.port, {})


def test_after_a_stop_nobody_answers(server: HttpServer) -> None:
    server.stop()
    with pytest.raises(OSError):
        ask(server, "/livez")
    server.stop()


def test_the_status_words_are_those_of_http() -> None:
    assert verdict({}).status is HTTPStatus.OK
