"""The multimodal prompt language: what is printed is read back, and each published limit accepts and refuses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.errors import PromptError
from palate.prompt import Handle, Prompt, Request, Shot, Text, parse, refusals

names = st.one_of(
    st.from_regex(r"(Image|Video)_[1-9][0-9]?", fullmatch=True),
    st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,6}", fullmatch=True).filter(
        lambda n: not n.startswith(("Image_", "Video_"))
    ),
)
words = st.text(st.sampled_from("ab @\n.,走[]Shot1'"), min_size=1, max_size=12)


@st.composite
def texts(draw: st.DrawFn) -> Text:
    pieces: list[str | Handle] = []
    for piece in draw(st.lists(st.builds(Handle, names) | words, min_size=1, max_size=6)):
        if isinstance(piece, str) and pieces and isinstance(pieces[-1], str):
            pieces[-1] += piece
        elif isinstance(piece, str) and pieces:
            pieces.append(" " + piece)
        else:
            pieces.append(piece)
    for end, strip in ((0, str.lstrip), (-1, str.rstrip)):
        if isinstance(pieces[end], str):
            pieces[end] = strip(str(pieces[end])) or "."
    if len(pieces) > 1 and isinstance(pieces[-2], Handle) and isinstance(pieces[-1], str):
        pieces[-1] = " " + pieces[-1].lstrip()
    return Text(tuple(pieces))


prompts = st.builds(Prompt, texts(), st.lists(st.builds(Shot, st.integers(0, 99), texts()), max_size=7).map(tuple))


@given(prompts)
def test_what_is_printed_is_read_back(prompt: Prompt) -> None:
    assert parse(str(prompt)) == prompt


@given(st.text(st.sampled_from("ab @_\n走[]Shot1, s"), max_size=40))
def test_what_is_read_is_printed_as_it_was_or_refused(text: str) -> None:
    try:
        prompt = parse(text)
    except PromptError:
        return
    assert str(prompt) == text


def test_handles_are_found_beside_any_script_and_punctuation() -> None:
    prompt = parse("让@Mara走进@Image_2。@Mara's dog, seen in @Video_1, mails a@@b.c")
    assert [(str(one), one.kind) for one in prompt.handles] == [
        ("@Mara", "element"),
        ("@Image_2", "image"),
        ("@Video_1", "video"),
    ]
    assert prompt.text.pieces[-1] == ", mails a@b.c"
    assert prompt.spelled(lambda one: f"<<<{one.name.lower()}>>>").endswith("seen in <<<video_1>>>, mails a@b.c")


def test_shots_are_read_in_order() -> None:
    prompt = parse("Two meet.\n[Shot 1, 4 s] @Ben waits.\nIt rains.\n[Shot 2, 3 s] She comes.")
    assert str(prompt.text) == "Two meet."
    assert [(shot.seconds, str(shot.text)) for shot in prompt.shots] == [
        (4, "@Ben waits.\nIt rains."),
        (3, "She comes."),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("at 5 @ noon", "begins no handle"),
        ("mail me@", "begins no handle"),
        ("@Image_ turns", "has no number"),
        ("@Video_01 turns", "has no number"),
        ("A.\n[Shot 2, 4 s] B", "shot 1 comes here"),
        ("A.\n[Shot 1, 04 s] B", "plain numbers"),
        ("[Shot 1, 4 s] B", "empty"),
        ("A. ", "ends in space"),
        ("", "empty"),
        ("a\rb", "carriage return"),
    ],
)
def test_other_text_is_refused_with_its_reason(text: str, problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        parse(text)


@pytest.mark.parametrize(
    "pieces",
    [("a", "b"), ("",), (Handle("Mara"), "s"), ("x\n[Shot 1, 2 s] y",)],
)
def test_pieces_that_would_be_read_back_as_others_are_refused(pieces: tuple[str | Handle, ...]) -> None:
    with pytest.raises(PromptError):
        Text(pieces)


def ask(text: str, seconds: int = 5, **more: object) -> Request:
    """A request whose every mentioned handle stands for an asset."""
    prompt = parse(text)
    return replace(Request(prompt, seconds, dict.fromkeys(prompt.handles)), **more)  # type: ignore[arg-type]


def images(count: int) -> str:
    return " ".join(f"@Image_{number}" for number in range(1, count + 1))


def shots(*seconds: int) -> str:
    return "A.\n" + "\n".join(f"[Shot {n}, {s} s] B." for n, s in enumerate(seconds, 1))


I1, I2, V1 = Handle("Image_1"), Handle("Image_2"), Handle("Video_1")


@pytest.mark.parametrize(
    ("accepted", "refused", "reason"),
    [
        (ask("a" * 2500), ask("a" * 2501), "the prompt has 2501 characters, 2500 are allowed"),
        (ask(images(7)), ask(images(8)), "8 reference images and elements, 7 are allowed"),
        (ask(images(6) + " @Mara"), ask(images(7) + " @Mara"), "8 reference images and elements, 7 are allowed"),
        (
            ask(images(4) + " @Video_1"),
            ask(images(5) + " @Video_1"),
            "5 reference images and elements, 4 are allowed beside a video",
        ),
        (ask("a", 3), ask("a", 2), "it lasts 2 s, not 3 to 15"),
        (ask("a", 15), ask("a", 16), "it lasts 16 s, not 3 to 15"),
        (ask(shots(1, 1, 1, 1, 1, 1), 6), ask(shots(1, 1, 1, 1, 1, 1, 1), 7), "7 shots, 6 are allowed"),
        (ask(shots(1, 4)), ask(shots(0, 5)), "a shot is shorter than 1 s"),
        (ask(shots(2, 3)), ask(shots(2, 2)), "the shots last 4 s together, the whole 5 s"),
        (
            ask("a", assets={I1: None, I2: None}, first=I1, last=I2),
            ask("a", assets={I2: None}, last=I2),
            "a last frame is given without a first",
        ),
        (ask("@Video_1"), ask("@Video_1", audio=True), "sound is asked for beside a reference video"),
        (ask("@Image_1", audio=True), ask("@Image_1", assets={}), "@Image_1 stands for no asset"),
        (ask("@Image_1"), ask("@Image_1", assets={I1: None, I2: None}), "@Image_2 is given and never mentioned"),
        (ask("@Video_1", assets={V1: 3.0}), ask("@Video_1", assets={V1: 2.9}), "@Video_1 lasts 2.9 s, not 3 to 10"),
        (ask("@Video_1", assets={V1: 10.0}), ask("@Video_1", assets={V1: 10.1}), "@Video_1 lasts 10.1 s, not 3 to 10"),
        (ask("@Image_1", first=I1), ask("@Video_1", first=V1), "@Video_1 is to be a frame and is no image"),
    ],
)
def test_each_published_limit_accepts_and_refuses(accepted: Request, refused: Request, reason: str) -> None:
    assert refusals(accepted) == []
    assert refusals(refused) == [reason]
