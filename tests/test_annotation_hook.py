"""The door that Label Studio knocks at wakes for the secret alone, and lets nothing in."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from annotation.client import StudioError
from annotation.hook import HEADER, listening

SECRET = "5e" * 32


@pytest.fixture
def door() -> Iterator[tuple[str, list[str]]]:
    woken: list[str] = []
    with listening("127.0.0.1", 0, SECRET, lambda: woken.append("woken")) as port:
        yield f"http://127.0.0.1:{port}/", woken


def test_the_secret_wakes_once_a_call(door):
    url, woken = door
    for calls in (1, 2):
        answer = httpx.post(url, headers={HEADER: SECRET}, json={"action": "ANNOTATION_CREATED"})
        assert (answer.status_code, answer.content) == (204, b"")
        assert len(woken) == calls


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": SECRET}, 401),
        ({HEADER: ""}, 403),
        ({HEADER: SECRET[:-1]}, 403),
        ({HEADER: SECRET + "0"}, 403),
        ({HEADER: SECRET.upper()}, 403),
        ([(HEADER, "no"), (HEADER, SECRET)], 403),
        ({HEADER: b"\xff\xfe"}, 403),
    ],
)
def test_forged_calls_are_refused_and_wake_nobody(door, headers, status):
    url, woken = door
    answer = httpx.post(url, headers=headers, content=b'{"action": "ANNOTATION_CREATED"}')
    assert answer.status_code == status
    assert not woken
    assert SECRET not in str(answer.headers) + answer.text


def test_nothing_but_post_is_taken(door):
    url, woken = door
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        assert httpx.request(method, url, headers={HEADER: SECRET}).status_code == 501
    assert not woken


def test_somebody_who_says_nothing_does_not_keep_others_out(door):
    url, woken = door
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as silent:
        silent.sendall(b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n")
        assert httpx.post(url, headers={HEADER: SECRET}).status_code == 204
    assert len(woken) == 1


def test_the_door_is_gone_afterwards_and_a_taken_address_is_an_error():
    with (
        listening("127.0.0.1", 0, SECRET, list) as port,
        pytest.raises(StudioError, match="cannot be listened on"),
        listening("127.0.0.1", port, SECRET, list),
    ):
        pass
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"http://127.0.0.1:{port}/")
