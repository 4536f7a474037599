"""Two people label in a real Label Studio, in a real browser, and the record says what they pressed."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from annotation.answers import REFUSED, WITHDRAWN
from annotation.client import Client, StudioError
from annotation.design import blind_name, versus
from annotation.hook import HEADER
from annotation.interface import questions
from annotation.studio import Home, running
from annotation.sync import pull, push, title
from palate.records import OVERALL, Case, Comparison, Judgement, Sample, Side, Verdict
from palate.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

REAL = (
    Path(__file__).resolve().parents[2] / "shared" / "data" / "votes" / "videoalign" / "datasets" / "train" / "videos"
)
SECRETS = ("kling-secret", "veo-secret", "candidate", "baseline", "seed", "gold", "repeat", "aliyun", "lavf", "x264")
STUDY = "kling-secret against veo-secret"
ASKED = questions("shapes")
REASON = "because of the hands"
KEYS = dict(zip([question.axis for question in ASKED], ("123", "qwe", "asd", "zxc")))


@dataclass
class World:
    """A store with a study that has been pushed, and its server."""

    store: Store
    home: Home
    client: Client
    comparisons: dict[str, Comparison]

    @property
    def project(self) -> int:
        project = self.client.project(title(self.home, STUDY))
        assert project
        return project.id

    def judgements(self) -> list[Judgement]:
        """Those that stand."""
        rows = list(self.store.select(Judgement, comparison=list(self.comparisons)))
        superseded = {one.supersedes for one in rows}
        return [one for one in rows if one.id not in superseded]


def program() -> Path:
    beside = Path(sys.executable).with_name("label-studio")
    found = str(beside) if beside.exists() else shutil.which("label-studio")
    if not found:
        pytest.skip("there is no label-studio (make label-studio)")
    return Path(found)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def filled(store: Store) -> dict[str, Comparison]:
    """Real pairs where they are present, and generated clips of different lengths."""
    media, new, old = store.media, [], []
    pairs: list[tuple[str, str, str]] = []
    for number in (1, 2, 3) if REAL.is_dir() else ():
        one, other = (media.add_file(REAL / f"example_{number}_{side}.mp4") for side in "AB")
        pairs.append((f"real prompt {number}", one, other))
    for number in (1, 2):
        clips = [np.full((length, 30, 30, 3), 40 * number + 20, np.uint8) for length in (16, 16 + 4 * number)]
        for clip in clips:
            for frame in range(len(clip)):
                clip[frame, 5:15, frame : frame + 10] = (255, 0, 0)
        pairs.append((f"a red square & <b>{number}</b>", *(media.add_video(clip, 8, scale=4) for clip in clips)))
    for prompt, one, other in pairs:
        case = Case(suite="suite", prompt=prompt)
        new.append(Sample(case=case.id, system="kling-secret", seed=7, media=one))
        old.append(Sample(case=case.id, system="veo-secret", seed=7, media=other))
        store.add([case, new[-1], old[-1]])
    plan = versus(STUDY, new, old, seed=0)
    store.add(plan.comparisons)
    return {one.id: one for one in plan.comparisons}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("studio")
    with Store(str(folder / "palate.db")) as store:
        comparisons = filled(store)
        home = Home(folder / "label-studio")
        with running(home, free_port(), program()) as client:
            assert push(store, STUDY, home, client, ASKED, overlap=2) == len(comparisons)
            yield World(store, home, client, comparisons)


@contextmanager
def browsing() -> Iterator[Any]:
    """A headless Chromium of one person."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("there is no Chromium (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1500,1300"):
        options.add_argument(argument)
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


def until(told: Any, seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := told():
            return found
        time.sleep(0.2)
    raise AssertionError(f"it did not come to pass within {seconds} s")


def find(browser: Any, by: str, what: str) -> Any:
    """The first such element, as soon as there is one: the driver's own wait must be shorter than its connection's."""
    return until(lambda: browser.find_elements(by, what))[0]


def sign_up(browser: Any, world: World, person: str) -> None:
    browser.get(world.client.invitation())
    find(browser, "name", "email").send_keys(person)
    find(browser, "name", "password").send_keys("a-long-password-1")
    find(browser, "css selector", "form").submit()
    until(lambda: "signup" not in browser.current_url)


def times(browser: Any) -> list[float]:
    return browser.execute_script("return [...document.querySelectorAll('video')].map(v => v.currentTime)")


def shown(browser: Any) -> frozenset[str]:
    """The opaque names of the videos that are there: in the page's source they stand in any order."""
    script = "return [...document.querySelectorAll('video')].filter(v => v.readyState > 0).map(v => v.currentSrc)"
    return frozenset(name for source in browser.execute_script(script) for name in re.findall(r"[0-9a-f]{64}", source))


def drawn(browser: Any) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Mean colours: of what is drawn on the screen, from left to right, and of each video's frame, by opaque name."""
    script = """
        const mean = (picture, width, height) => {
            const sheet = document.createElement('canvas');
            sheet.width = sheet.height = 8;
            sheet.getContext('2d').drawImage(picture, 0, 0, width, height, 0, 0, 8, 8);
            const sums = [0, 0, 0, 0];
            sheet.getContext('2d').getImageData(0, 0, 8, 8).data.forEach((value, at) => sums[at % 4] += value);
            return sums.slice(0, 3).map(sum => 255 * sum / sums[3]);
        };
        const screens = [...document.querySelectorAll('.stage canvas')];
        screens.sort((one, other) => one.getBoundingClientRect().x - other.getBoundingClientRect().x);
        const videos = [...document.querySelectorAll('video')];
        return [screens.map(one => mean(one, one.width, one.height)),
                videos.map(one => [one.currentSrc, mean(one, one.videoWidth, one.videoHeight)])];
    """
    screens, videos = browser.execute_script(script)
    names = {re.findall(r"[0-9a-f]{64}", source)[-1]: np.array(colour) for source, colour in videos}
    return [np.array(colour) for colour in screens], names


def assert_sides(browser: Any, left: str, right: str) -> bool:
    """That the video of this name is drawn on the left and that one on the right; False where they look too alike."""
    screens, videos = drawn(browser)
    apart = np.abs(videos[left] - videos[right]).max()
    if apart < 20:
        return False
    for screen, name in zip(screens, (left, right), strict=True):
        assert np.abs(screen - videos[name]).max() < apart / 2
    return True


def chosen(browser: Any) -> int:
    """How many rows show an answer: by what is drawn, since equal answers of two rows share one radio group's state."""
    drawn = ".ant-radio-checked, .ant-checkbox-checked"
    script = "return [...document.querySelectorAll('.question')].filter(q => q.querySelector(arguments[0])).length"
    return browser.execute_script(script, drawn)


def tick(browser: Any, keys: Iterable[str]) -> None:
    """Press one key after the other until each has answered a row.

    A busy page loses some, and a key pressed twice takes its answer back: so there is a long wait before a second try.
    """
    for count, key in enumerate(keys, 1):
        for _ in range(3):
            press(browser, key)
            with suppress(AssertionError):
                until(lambda: chosen(browser) == count, 40)  # noqa: B023
                break
        assert chosen(browser) == count


def press(browser: Any, *keys: str, control: bool = False) -> None:
    from selenium.webdriver import ActionChains, Keys

    chain = ActionChains(browser)
    if control:
        chain.key_down(Keys.CONTROL)
    for key in keys:
        chain.send_keys(getattr(Keys, key, key)).pause(0.1)
    if control:
        chain.key_up(Keys.CONTROL)
    chain.perform()


def submit(browser: Any) -> None:
    """Send the answers, from the page itself and not from a text field, and again where a busy page lost the keys."""
    shown_before = shown(browser)
    for _ in range(3):
        browser.execute_script("document.activeElement.blur()")
        press(browser, "ENTER", control=True)
        with suppress(AssertionError):
            until(lambda: shown(browser) != shown_before, 30)
            return
    raise AssertionError("the answers were not sent")


def play_in_step(browser: Any) -> float:
    """Play both videos, then pause them: the largest distance in seconds that was ever seen between them."""
    from selenium.webdriver import ActionChains, Keys

    def toggle() -> None:
        both = (Keys.CONTROL, Keys.ALT)
        chain = ActionChains(browser)
        for key in both:
            chain.key_down(key)
        chain.send_keys(" ")
        for key in both:
            chain.key_up(key)
        chain.perform()

    toggle()
    until(lambda: min(times(browser)) > 0.2)
    apart = []
    for _ in range(12):
        one, other = times(browser)
        apart.append(abs(one - other))
        time.sleep(0.25)
    toggle()
    until(lambda: times(browser) == (time.sleep(0.4), times(browser))[1])
    one, other = times(browser)
    return max(*apart, abs(one - other))


def label_all(browser: Any, world: World, answers: str, skip_first: bool) -> dict[str, dict[str, str]]:
    """Answer every comparison with the keyboard: comparison -> axis -> the side pressed; nothing for a skip."""
    sides = {id: [blind_name(id, side, world.home.salt) for side in Side] for id in world.comparisons}
    names = {frozenset(both): id for id, both in sides.items()}
    browser.get(f"{world.client.url}/projects/{world.project}/data?labeling=1")
    find(browser, "css selector", "[aria-label='Close modal']").click()  # the guide, which opens by itself
    pressed: dict[str, dict[str, str]] = {}
    apart: list[float] = []
    told_apart = 0
    for turn in range(len(world.comparisons)):
        comparison = until(lambda: (found := names.get(shown(browser))) not in pressed and found)
        until(lambda: len(browser.find_elements("css selector", "[aria-label='Play']")) == 2)
        assert not find(browser, "class name", "lsf-sidepanels__wrapper_align_right").is_displayed()
        time.sleep(1)  # keys that come before the page has settled are lost
        if picture := os.environ.get("PALATE_SCREENSHOTS"):
            browser.save_screenshot(f"{picture}/{turn}-{comparison}.png")
        told_apart += assert_sides(browser, *sides[comparison])
        if turn < 3:
            apart.append(play_in_step(browser))
        if skip_first and not pressed:
            tick(browser, "o")
            press(browser, " ", control=True)
            pressed[comparison] = {}
            continue
        order = {axis: int(answers[(turn + place) % len(answers)]) for place, axis in enumerate(KEYS)}
        tick(browser, (KEYS[axis][choice] for axis, choice in order.items()))
        if turn == len(world.comparisons) - 1:
            find(browser, "css selector", "textarea").send_keys(REASON)
        submit(browser)
        pressed[comparison] = {axis: ("left", "same", "right")[choice] for axis, choice in order.items()}
    print(f"largest distance between the videos: {1000 * max(apart):.0f} ms")
    assert max(apart) < 0.1
    assert told_apart or not REAL.is_dir()
    until(lambda: not browser.execute_script("return document.querySelectorAll('video').length"))
    return pressed


def test_two_people_label_and_the_record_says_what_they_pressed(world):
    pressed = {}
    for person, answers in (("ann@example.com", "0122"), ("bob@example.com", "2010")):
        with browsing() as browser:
            sign_up(browser, world, person)
            pressed[person] = label_all(browser, world, answers, skip_first=person.startswith("bob"))
    found = pull(world.store, STUDY, world.home, world.client)
    answers = 2 * len(world.comparisons)
    assert (found.annotations, found.refused, found.added) == (answers, 0, answers)
    rows = {(one.annotator, one.comparison): one for one in world.judgements()}
    for person, own in pressed.items():
        for id, answers in own.items():
            row, side = rows.pop((person, id)), world.comparisons[id].candidate_side
            assert not row.simulated
            assert row.seconds
            assert row.seconds > 0
            assert row.skip == (None if answers else "cannot tell")
            assert row.reasons == (REASON if id == list(own)[-1] else "")
            turned = {"same": Verdict.SAME, side: Verdict.GOOD}
            assert row.verdicts == {axis: turned.get(answer, Verdict.BAD) for axis, answer in answers.items()}
    assert not rows
    assert pull(world.store, STUDY, world.home, world.client).added == 0
    assert pull(world.store, STUDY, world.home, world.client, everything=True).added == 0
    assert push(world.store, STUDY, world.home, world.client, ASKED, overlap=2) == 0


def member(world: World, person: str) -> httpx.Client:
    """Somebody who signed up, logged in with a plain HTTP client."""
    session = httpx.Client(base_url=world.client.url, follow_redirects=True, timeout=60)
    link = world.client.invitation()
    session.get(link)
    form = {"email": person, "password": "a-long-password-1", "csrfmiddlewaretoken": session.cookies["csrftoken"]}
    assert session.post(link, data=form).is_success
    session.headers["X-CSRFToken"] = session.cookies["csrftoken"]
    return session


def test_nothing_that_a_member_can_read_unblinds(world):
    with closing(member(world, "spy@example.com")) as spy:
        assert spy.get("/api/projects").is_success
        known = [f"/api/projects/{world.project}", f"/api/projects/{world.project}/export?exportType=JSON"]
        known += ["/api/projects", f"/api/storages/localfiles?project={world.project}"]
        known += [
            f"/api/tasks?project={world.project}&fields=all",
            f"/api/projects/{world.project}/export?download_all_tasks=true",
        ]
        told = "".join(spy.get(path).text for path in known).lower()
        tasks = json.loads(spy.get(known[-1]).text)
        assert len(tasks) == len(world.comparisons)
        ids = [*world.comparisons, *(one.candidate for one in world.comparisons.values())]
        ids += [one.media for one in world.store.select(Sample) if one.media]
        assert not [secret for secret in (*SECRETS[:4], *SECRETS[5:], STUDY, *ids) if secret in told]
        for task in tasks:
            assert set(task["data"]) == {"pair", "prompt", "left", "right", "references"}
            for side in ("left", "right"):
                file = spy.get(task["data"][side])
                assert file.headers["content-type"] == "video/mp4"
                assert not [secret for secret in SECRETS if secret.encode() in file.content.lower()]
        assert "last-modified" not in file.headers or "1970" in file.headers["last-modified"]
        inside = world.home.served.name
        for path in (f"../{name}" for name in ("salt", "token", "palate.db", f"clean/{inside}")):
            assert not spy.get(f"/data/local-files/?d={path}").is_success
        assert not spy.get("/data/local-files/?d=../../palate.db").is_success
    for path in (*known, tasks[0]["data"]["left"]):
        assert httpx.get(world.client.url + path).status_code in (302, 401)
    signup = {"email": "stranger@example.com", "password": "a-long-password-1"}
    with httpx.Client(base_url=world.client.url) as stranger:
        stranger.get("/user/signup/")
        stranger.post("/user/signup/", data={**signup, "csrfmiddlewaretoken": stranger.cookies.get("csrftoken", "")})
    assert signup["email"] not in world.client.people().values()


def test_exported_videos_are_the_samples_to_the_pixel_and_say_nothing_else(world):
    folder = next(world.home.served.iterdir())
    for one in world.comparisons.values():
        for side in Side:
            path = folder / f"{blind_name(one.id, side, world.home.salt)}.mp4"
            sample = world.store.get(one.candidate if one.candidate_side == side else one.baseline)
            assert isinstance(sample, Sample)
            assert sample.media
            with av.open(str(path)) as shown, av.open(str(world.store.media.path(sample.media))) as made:
                assert set(shown.metadata) <= {"major_brand", "minor_version", "compatible_brands"}
                assert all(set(stream.metadata) <= {"language", "handler_name"} for stream in shown.streams)
                for _, seen, original in zip(range(8), shown.decode(video=0), made.decode(video=0)):
                    factor = seen.height // original.height
                    assert seen.height >= 384
                    if factor == 1:
                        assert np.array_equal(seen.to_ndarray(), original.to_ndarray())
                    pixels = original.to_ndarray(format="rgb24").repeat(factor, 0).repeat(factor, 1).astype(int)
                    assert np.abs(seen.to_ndarray(format="rgb24") - pixels).mean() < 4


def test_what_the_server_does_not_check_pull_refuses_and_later_changes_supersede(world):
    people = [member(world, f"person{number}@example.com") for number in range(4)]
    study = "another study"
    first = next(iter(world.comparisons.values()))
    comparison = first.model_copy(update={"study": study})
    world.store.add([comparison])
    assert push(world.store, study, world.home, world.client, ASKED, overlap=2) == 1
    project = world.client.project(title(world.home, study))
    assert project
    (task,) = world.client.annotated(project.id)

    def answer(who: int, *choices: str, name: str = OVERALL, skip: bool = False) -> int:
        result = [
            {"from_name": name, "to_name": "left", "type": "choices", "value": {"choices": [one]}} for one in choices
        ]
        body = {"result": result, "was_cancelled": skip, "lead_time": 3.5}
        reply = people[who].post(f"/api/tasks/{task['id']}/annotations", json=body)
        assert reply.is_success, reply.text
        return reply.json()["id"]

    def standing() -> list[str]:
        pull(world.store, study, world.home, world.client)
        rows = list(world.store.select(Judgement, comparison=comparison.id))
        superseded = {one.supersedes for one in rows}
        return sorted(one.skip or str(one.verdicts[OVERALL]) for one in rows if one.id not in superseded)

    good, bad = ("good", "bad") if comparison.candidate_side == "left" else ("bad", "good")
    kept = answer(0, "left")
    answer(0, "right")
    answer(1)
    answer(1, "up")
    answer(1, "left", name="foreign")
    edited = answer(2, "left")
    answer(3, "left")
    answer(3, skip=True)
    refusals = [
        f"{REFUSED}'up' is no answer on overall",
        f"{REFUSED}a second answer by the same person",
        f"{REFUSED}an answer to 'foreign', which was not asked",
        f"{REFUSED}an empty answer",
        f"{REFUSED}beyond the overlap of 2",
        "no reason given",
    ]
    assert standing() == sorted([good, good, *refusals])
    rows = world.store.count(Judgement, comparison=comparison.id)
    changed = [{"from_name": OVERALL, "to_name": "left", "type": "choices", "value": {"choices": ["right"]}}]
    assert people[2].patch(f"/api/annotations/{edited}", json={"result": changed}).is_success
    assert standing() == sorted([good, bad, *refusals])
    assert people[0].delete(f"/api/annotations/{kept}").is_success
    # The first answer is gone, so the same person's second is now the one that counts.
    assert standing() == sorted([bad, bad, WITHDRAWN, *(one for one in refusals if "second" not in one)])
    assert world.store.count(Judgement, comparison=comparison.id) == rows + 3
    assert pull(world.store, study, world.home, world.client, everything=True).added == 0


def test_a_push_that_was_killed_is_finished_by_the_next(world, monkeypatch):
    study = "a killed study"
    world.store.add([one.model_copy(update={"study": study}) for one in world.comparisons.values()])
    monkeypatch.setattr("annotation.sync.CHUNK", 2)

    class KilledError(Exception):
        pass

    def kill(_: int) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        push(world.store, study, world.home, world.client, ASKED, 2, kill)
    project = world.client.project(title(world.home, study))
    assert project
    arrived = len(world.client.pairs(project.id))  # more than one part where others were on their way
    assert 2 <= arrived <= len(world.comparisons)
    assert push(world.store, study, world.home, world.client, ASKED, 2) == len(world.comparisons) - arrived
    project = world.client.project(title(world.home, study))
    assert project
    assert len(world.client.pairs(project.id)) == project.tasks == len(world.comparisons)


def test_a_pull_reads_more_changed_tasks_than_one_request_may_name(world):
    study, one = "a large study", next(iter(world.comparisons.values()))
    sample = world.store.get(one.candidate)
    many = [sample.model_copy(update={"seed": number}) for number in range(1100, 2200)]
    asked = [one.model_copy(update={"study": study, "candidate": other.id}) for other in many]
    world.store.add([*many, *asked])
    assert push(world.store, study, world.home, world.client, ASKED, overlap=1) == len(many)
    for _ in range(2):  # to the second all of them are new, since they were made within a minute of the first
        assert pull(world.store, study, world.home, world.client).added == 0


def test_a_wrong_token_is_refused_and_never_told(world):
    with Client(world.client.url, "f" * 40) as stranger, pytest.raises(StudioError) as error:
        stranger.invitation()
    assert "f" * 8 not in str(error.value)


def test_members_work_with_tokens_of_either_kind(world):
    with closing(member(world, "helper@example.com")) as helper:
        legacy = helper.get("/api/current-user/token").json()["token"]
        personal = helper.post("/api/token/").json()["token"]
        assert "." in personal
    assert "." not in legacy
    for token in (legacy, personal):
        with Client(world.client.url, token) as client:
            assert push(world.store, STUDY, world.home, client, ASKED, overlap=2) == 0
            if token == personal:
                client._http.auth._access = "an.expired.token"  # type: ignore[attr-defined]
            assert pull(world.store, STUDY, world.home, client).refused == 0


def test_an_answer_wakes_the_watch_and_a_forged_call_does_not(world):
    study = "a watched study"
    first = next(iter(world.comparisons.values()))
    comparison = first.model_copy(update={"study": study})
    world.store.add([comparison])
    push(world.store, study, world.home, world.client, ASKED, overlap=1)
    project = world.client.project(title(world.home, study))
    assert project
    watch = [sys.executable, "-m", "palate", "annotate", "watch", "--study", study, "--until-done", "--every", "3600"]
    watch += ["--store", world.store.name, "--url", world.client.url]
    with subprocess.Popen(watch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as watching:
        assert watching.stdout
        door = re.findall(r"calls (http://127\.0\.0\.2:\d+/)", said := watching.stdout.readline())[0]
        said += watching.stdout.readline()
        (arrangement,) = world.client._ask("GET", "/api/webhooks/", params={"project": project.id})
        (secret,) = arrangement["headers"].values()
        assert not arrangement["send_payload"]
        time.sleep(5)  # the first look, which finds nothing
        for headers, status in (({}, 401), ({HEADER: "0" * 64}, 403), ({HEADER: secret[:-1]}, 403)):
            assert httpx.post(door, headers=headers, json={"action": "ANNOTATION_CREATED"}).status_code == status
        assert watching.poll() is None
        (task,) = world.client.annotated(project.id)
        result = [{"from_name": OVERALL, "to_name": "left", "type": "choices", "value": {"choices": ["same"]}}]
        with closing(member(world, "woken@example.com")) as person:
            body = {"result": result, "was_cancelled": False, "lead_time": 3.5}
            assert person.post(f"/api/tasks/{task['id']}/annotations", json=body).is_success
        assert watching.wait(120) == 0
        said += watching.stdout.read()
    assert secret not in said
    (row,) = world.store.select(Judgement, comparison=comparison.id)
    assert row.verdicts == {OVERALL: Verdict.SAME}
    assert world.client._ask("GET", "/api/webhooks/", params={"project": project.id}) == []


def test_members_cannot_have_the_server_call_other_machines_or_services(world):
    with closing(member(world, "prober@example.com")) as prober:
        for host in ("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "192.168.1.1", "8.8.8.8"):
            answer = prober.post("/api/webhooks/", json={"project": world.project, "url": f"http://{host}:9/"})
            assert answer.status_code == 403, host


@contextmanager
def serving(world: World, folder: Path) -> Iterator[tuple[list[str], "subprocess.Popen[str]"]]:
    """`palate annotate serve` on a copy of the world's server, since a fresh one takes half a minute or more."""
    url = str(folder / "palate.db")
    Store(url).close()
    home = shutil.copytree(world.home.folder, folder / "label-studio", ignore=shutil.ignore_patterns("process", "log"))
    home.chmod(0o700)
    command = [sys.executable, "-m", "palate", "annotate", "serve", "--store", url, "--port", str(free_port())]
    command += ["--program", str(program())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            assert "sign up at" in server.stdout.readline()
            yield command, server
        finally:
            server.kill()


def left_of(folder: Path) -> list[bytes]:
    """The command lines of processes that name this folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes())
    return [line for line in lines if b"start" in line and str(folder).encode() in line]


def test_the_command_serves_until_stopped_and_leaves_no_process(world, tmp_path):
    with serving(world, tmp_path) as (command, server):
        token = (tmp_path / "label-studio" / "token").read_text()
        again = subprocess.run(command, capture_output=True, text=True)
        assert again.returncode == 2
        pid = (tmp_path / "label-studio" / "process").read_text().split()[0]
        assert f"already runs on port {command[command.index('--port') + 1]}" in again.stderr
        assert f"kill {pid}" in again.stderr
        assert left_of(tmp_path)
        server.send_signal(signal.SIGTERM)
        rest, _ = server.communicate(timeout=60)
        assert server.returncode == 0
    assert token not in rest + again.stderr + again.stdout
    assert token not in (tmp_path / "label-studio" / "log").read_text()
    assert not left_of(tmp_path)
    for secret in ("token", "password", "log"):
        assert (tmp_path / "label-studio" / secret).stat().st_mode & 0o077 == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        command[command.index("--port") + 1] = str(taken.getsockname()[1])
        elsewhere = subprocess.run(command, capture_output=True, text=True)
    assert elsewhere.returncode == 2
    assert "give another --port" in elsewhere.stderr


def test_nothing_is_left_when_the_command_is_killed(world, tmp_path):
    with serving(world, tmp_path) as (_, server):
        server.kill()
        server.wait()
        until(lambda: not left_of(tmp_path), 60)


def test_the_command_says_so_when_the_server_ends_by_itself(world, tmp_path):
    with serving(world, tmp_path) as (_, server):
        os.kill(int((tmp_path / "label-studio" / "process").read_text().split()[0]), signal.SIGKILL)
        assert server.wait(60) == 2
