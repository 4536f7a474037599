"""The few requests that Palate makes of a Label Studio server, over plain HTTP. The token is never told to anybody."""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from palate.errors import PalateError

SLOW = 600.0  # seconds; an export of 30,000 annotations takes 20
PAGE = 1000


class StudioError(PalateError):
    """A Label Studio server that cannot be started, reached or understood."""


@dataclass(frozen=True)
class Project:
    id: int
    tasks: int
    overlap: int  # answers that each task is to have
    page: str  # the labelling XML


class _Token(httpx.Auth):
    """A legacy token as it is; a personal access token by way of the short-lived ones that it buys."""

    requires_response_body = True

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token, self._access = url, token, ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if "." not in self._token:
            request.headers["Authorization"] = f"Token {self._token}"
            yield request
            return
        request.headers["Authorization"] = f"Bearer {self._access}"
        if self._access and (yield request).status_code != httpx.codes.UNAUTHORIZED:
            return
        bought = yield httpx.Request("POST", f"{self._url}/api/token/refresh", json={"refresh": self._token})
        self._access = bought.json()["access"] if bought.is_success else ""
        request.headers["Authorization"] = f"Bearer {self._access}"
        yield request


class Client:
    """A Label Studio server, as one of its members. Use it in a `with`.

    Args:
        url: such as http://127.0.0.1:8080.
        token: a legacy API token or a personal access token.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, auth=_Token(self.url, token), timeout=SLOW)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def healthy(self) -> bool:
        """Whether the server answers that it is up."""
        try:
            return self._http.get("/health", timeout=5).is_success
        except httpx.TransportError:
            return False

    def invitation(self) -> str:
        """The link under which annotators sign up."""
        return self.url + self._ask("GET", "/api/invite")["invite_url"]

    def project(self, title: str) -> Project | None:
        """The project with this title."""
        for page in self._pages("/api/projects", "results", include="id,title,task_number"):
            for one in page:
                if one["title"] == title:
                    about = self._ask("GET", f"/api/projects/{one['id']}")
                    return Project(one["id"], about["task_number"], about["maximum_annotations"], about["label_config"])
        return None

    def create(self, title: str, page: str, guide: str, overlap: int) -> Project:
        """A new project, whose tasks come in a random order."""
        about = {
            "title": title,
            "label_config": page,
            "expert_instruction": guide,
            "show_instruction": True,
            "maximum_annotations": overlap,
            "sampling": "Uniform sampling",
            "show_collab_predictions": False,
        }
        return Project(self._ask("POST", "/api/projects", json=about)["id"], 0, overlap, page)

    def redefine(self, project: int, page: str, overlap: int) -> None:
        """Give a project this labelling page and overlap. The server refuses a page that orphans given answers."""
        self._ask("PATCH", f"/api/projects/{project}", json={"label_config": page, "maximum_annotations": overlap})

    def serve_folder(self, project: int, folder: str) -> None:
        """Let the annotators of a project read the files of a folder, a child of the server's document root."""
        known = self._ask("GET", "/api/storages/localfiles", params={"project": project})
        if all(one["path"] != folder for one in known):
            about = {"project": project, "path": folder, "title": "videos", "use_blob_urls": True}
            self._ask("POST", "/api/storages/localfiles", json=about)

    def add(self, project: int, tasks: Sequence[dict[str, str]]) -> None:
        """Add tasks in one transaction."""
        if tasks:
            self._ask("POST", f"/api/projects/{project}/import", json=[{"data": task} for task in tasks])

    def pairs(self, project: int) -> set[str]:
        """What the tasks of a project call themselves in `pair`."""
        return {task["data"].get("pair", "") for task in self._tasks(project, "data")}

    def touched(self, project: int, since: str) -> list[int]:
        """The numbers of the tasks that were made, answered, or whose answers were changed after `since`."""
        late = {"filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime", "value": since}
        return [task["id"] for task in self._tasks(project, "id", late)]

    def _tasks(self, project: int, field: str, *filters: dict[str, str]) -> Iterator[dict[str, Any]]:
        """One field of each task: the server takes three times as long for all of them."""
        query = json.dumps({"filters": {"conjunction": "and", "items": filters}})
        for page in self._pages("/api/tasks", "tasks", project=project, include=f"id,{field}", query=query):
            yield from page

    def annotated(self, project: int, ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Tasks with all their annotations: those with these ids, or every one."""
        params: dict[str, Any] = {"exportType": "JSON", "download_all_tasks": "true"}
        if ids is not None:
            params["ids[]"] = list(ids)
        return self._ask("GET", f"/api/projects/{project}/export", params=params)

    def people(self) -> dict[int, str]:
        """User number -> e-mail address."""
        return {one["id"]: one["email"] for one in self._ask("GET", "/api/users")}

    def call_on_answers(self, project: int, url: str, headers: Mapping[str, str]) -> int:
        """Have the server POST nothing but these headers to `url` whenever an answer comes, changes or goes.

        Whoever was called with headers of the same names before is not called any more.

        Returns:
            The number of this arrangement.

        Raises:
            StudioError: the server may not call there, or cannot be reached.
        """
        for one in self._ask("GET", "/api/webhooks/", params={"project": project}):
            if one["headers"].keys() == headers.keys():
                self.call_no_more(one["id"])
        events = ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"]
        about = {"project": project, "url": url, "headers": dict(headers), "actions": events}
        about |= {"send_payload": False, "send_for_all_actions": False}
        return self._ask("POST", "/api/webhooks/", json=about)["id"]

    def call_no_more(self, arrangement: int) -> None:
        self._ask("DELETE", f"/api/webhooks/{arrangement}/")

    def _pages(self, path: str, key: str, **params: object) -> Iterator[list[dict[str, Any]]]:
        number, seen, total = 1, 0, 1
        while seen < total:
            answer = self._ask("GET", path, params={**params, "page": number, "page_size": PAGE})
            total = answer["count"] if "count" in answer else answer["total"]
            page = answer[key]
            if not page:
                return
            seen, number = seen + len(page), number + 1
            yield page

    def _ask(self, method: str, path: str, **about: Any) -> Any:
        try:
            answer = self._http.request(method, path, **about)
        except httpx.TransportError as error:
            remedy = "check that it runs (`palate annotate serve`) and that --url is right"
            raise StudioError(f"{self.url} cannot be reached ({type(error).__name__})", remedy) from None
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise StudioError(
                f"{self.url} does not let us in", "check the token, and that it allows tokens of its kind"
            )
        if not answer.is_success:
            said = " ".join(answer.text.split())[:300]
            raise StudioError(f"{self.url} refused {method} {path} ({answer.status_code}: {said})", "see its log")
        return answer.json() if answer.content else None
