"""A real HTTP server that speaks OpenAI's chat completions, and answers about captions of the shapes world by rule."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from palate import shapes

Script = Callable[[dict[str, Any]], str]
NUMBERS = {"a": "one", "two": "two", "three": "three"}


def answer(caption: str, question: str) -> str:
    """What the caption says to one of the questions of `vidcap_shapes`."""
    words = re.findall(r"[a-z]+", caption)
    about = {
        "background?": re.findall(r"on a (\w+) background", caption),
        "are the objects?": [word for word in words if word in shapes.COLOURS],
        "shape are": [shape for shape in shapes.SHAPES if any(word.startswith(shape) for word in words)],
        "move?": re.findall(r"(stays? still|moves? \w+(?: then \w+)?)", caption),
        "many": [NUMBERS[words[0]]] if words and words[0] in NUMBERS else [],
    }
    if "What shape" in question:
        found = about["shape are"]
    else:
        found = next((found for part, found in about.items() if part in question), [])
    return re.sub(r"^(stay|move)\b", r"\1s", found[0]) if found else "not mentioned"


def verdict(right: str, given: str) -> int:
    return 2 if given == right else 0 if given == "not mentioned" else -1


def honest(body: dict[str, Any]) -> str:
    """Both roles, by the text of the request alone."""
    user = body["messages"][1]["content"]
    if found := re.fullmatch(r"Description: (.*)\n\nQuestion: (.*)", user, re.DOTALL):
        return answer(found[1], found[2])
    _, right, given = (line.partition(": ")[2] for line in user.splitlines())
    return json.dumps({"analysis": "by rule", "score": verdict(right, given)})


class Server:
    """`requests` are the bodies that came; `busy` counts how many were answered at once at most."""

    def __init__(self, script: Script, status: Callable[[int], int], delay: float) -> None:
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.busy = self.most = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    outer.requests.append(body)
                    outer.times.append(time.monotonic())
                    code = status(len(outer.requests))
                    outer.busy += 1
                    outer.most = max(outer.most, outer.busy)
                time.sleep(delay)
                with outer._lock:
                    outer.busy -= 1
                text = script(body) if code == 200 else "no"
                usage = {"prompt_tokens": 10, "completion_tokens": len(text.split())}
                told = {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}
                data = json.dumps(told).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@contextmanager
def serving(
    script: Script = honest, status: Callable[[int], int] = lambda number: 200, delay: float = 0.0
) -> Iterator[Server]:
    server = Server(script, status, delay)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
