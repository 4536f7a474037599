"""What an annotator sees: the labelling page, made from a declared list of questions.

Two videos play, pause and loop in step, and every question is answered left / same / right. Left and right are all that
the page knows: which of them is the candidate stands in our record only.

Label Studio's Video tags of one sync group start, pause and seek together. They do not loop, so the files do: see
`annotation.export`. A page of our own with a script that loops them is no way: Label Studio 1.23 takes scripts,
handlers and frames out of every HyperText, and that protects the annotators.
"""

from dataclasses import dataclass
from xml.etree import ElementTree

from palate.errors import DataError
from palate.records import OVERALL, Axis

LEFT, SAME, RIGHT = "left", "same", "right"
SKIP, REASONS = "skip", "reasons"  # names of the page's controls beside the axes
SKIP_REASONS = ("does not play", "not fit to be shown", "cannot tell", "other")

_ANSWERS = {LEFT: "Left better", SAME: "Same", RIGHT: "Right better"}
# One row of the keyboard for each question, in the order in which they stand.
_KEYS = ("123", "qwe", "asd", "zxc", "456", "789")


@dataclass(frozen=True)
class Question:
    """One thing that people judge, in their words.

    Attributes:
        axis: its name in the record.
        title: as it stands on the page.
        better: what makes one video better than the other.
    """

    axis: Axis
    title: str
    better: str


_OVERALL = Question(OVERALL, "Overall", "the one you would rather have, all things considered")
_VISUAL = Question("visual_quality", "Visual quality", "sharper, cleaner, free of flicker, noise and deformed parts")

# By task: the axes of Kling-Omni (arXiv 2512.16776, section 4.1), VideoReward (arXiv 2501.13918), KlingAvatar (arXiv
# 2509.09595) and of the shapes world.
INTERFACES: dict[str, tuple[Question, ...]] = {
    "omni": (
        _OVERALL,
        Question("dynamic_quality", "Dynamic quality", "motion that is smooth, rich and physically possible"),
        Question("prompt_following", "Prompt following", "everything asked for is there, and nothing contradicts it"),
        Question("identity_consistency", "Identity consistency", "people and things look as in the references"),
        _VISUAL,
    ),
    "omni-edit": (
        _OVERALL,
        Question("dynamic_quality", "Dynamic quality", "motion that is smooth, rich and physically possible"),
        Question("prompt_following", "Prompt following", "the edit asked for is made, in full"),
        Question("identity_consistency", "Identity consistency", "people and things look as in the references"),
        Question("video_consistency", "Video consistency", "what was not to be edited is as it was in the source"),
        _VISUAL,
    ),
    "videoreward": (
        _OVERALL,
        _VISUAL,
        Question("motion_quality", "Motion quality", "motion that is stable, natural and neither frozen nor jerky"),
        Question("text_alignment", "Text alignment", "subject, action, place, style and camera are as the text says"),
    ),
    "avatar": (
        _OVERALL,
        Question("lip_sync", "Lip sync", "the mouth moves with the sound "),
        _VISUAL,
        Question("motion_quality", "Motion quality", "head, hands and body move steadily and naturally"),
        Question("motion_expressiveness", "Motion expressiveness", "gestures and face carry the mood of the speech"),
        Question("text_relevance", "Text relevance", "emotion, action and camera are as the text says"),
    ),
    "shapes": (
        _OVERALL,
        Question("prompt_following", "Prompt following", "the shapes, colours and moves that the text asks for"),
        Question("motion_quality", "Motion quality", "steady motion, nothing jumps, blinks or melts"),
        Question("visual_quality", "Visual quality", "clean edges and even colours"),
    ),
}

_GUIDE = (
    "Ctrl+Alt+Space, or either Play button, plays and pauses both videos in step. Each clip comes several times; "
    "watch it at least once to the end.",
    "Choose Left or Right when you see a clear difference. Choose Same when you would have to search for one.",
    "Answer each question by itself: a sharp video can follow the text badly. Which model made which is hidden.",
    "Example: the text asks for a dog that jumps. Left: a sharp dog that stands. Right: a blurred dog that jumps. "
    "Then Right is better at prompt following, Left at visual quality, and Overall is yours to weigh.",
    "Cannot judge? Choose why at the bottom, then press Skip. Ctrl+Enter submits.",
)


def questions(task: str) -> tuple[Question, ...]:
    """The questions of a task.

    Raises:
        DataError: no such task.
    """
    if task not in INTERFACES:
        raise DataError(f"there is no interface {task!r}", f"use one of {', '.join(INTERFACES)}")
    return INTERFACES[task]


def labelling_xml(asked: tuple[Question, ...]) -> str:
    """The labelling page as Label Studio's XML. Its tasks need `prompt`, `left`, `right` and `references`.

    Raises:
        DataError: no question, more questions than the keyboard has rows for, or one asked twice.
    """
    names = [question.axis for question in asked]
    if not 1 <= len(names) <= len(_KEYS) or len(set(names)) < len(names):
        raise DataError(f"{len(names)} questions ({', '.join(names)})", f"ask 1 to {len(_KEYS)}, each once")
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Style").text = _STYLE
    ElementTree.SubElement(view, "Header", value="$prompt", size="4")
    ElementTree.SubElement(view, "HyperText", name="shown", value="$references", inline="true")
    stage = ElementTree.SubElement(view, "View", className="stage")
    for side in (LEFT, RIGHT):
        half = ElementTree.SubElement(stage, "View")
        ElementTree.SubElement(half, "Header", value=side.capitalize(), size="5")
        ElementTree.SubElement(half, "Video", name=side, value=f"${side}", sync="pair", height="400")
    for question, keys in zip(asked, _KEYS):
        row = ElementTree.SubElement(view, "View", className="question")
        ElementTree.SubElement(row, "Header", value=question.title, size="5")
        choices = ElementTree.SubElement(
            row,
            "Choices",
            name=question.axis,
            toName=LEFT,
            choice="single-radio",
            showInline="true",
            required="true",
            requiredMessage=f"{question.title}: left, same or right?",
        )
        for (answer, shown), key in zip(_ANSWERS.items(), keys):
            ElementTree.SubElement(choices, "Choice", value=shown, alias=answer, hotkey=key)
        ElementTree.SubElement(row, "Header", value=question.better, size="6")
    ElementTree.SubElement(
        view, "TextArea", name=REASONS, toName=LEFT, rows="2", maxSubmissions="1", placeholder="Reasons, if you like"
    )
    row = ElementTree.SubElement(view, "View", className="question")
    ElementTree.SubElement(row, "Header", value="Cannot judge", size="5")
    skips = ElementTree.SubElement(row, "Choices", name=SKIP, toName=LEFT, choice="single", showInline="true")
    for reason, key in zip(SKIP_REASONS, "uiop"):
        ElementTree.SubElement(skips, "Choice", value=reason, hotkey=key)
    return ElementTree.tostring(view, encoding="unicode")


def axes_of(page: str) -> tuple[Axis, ...]:
    """The axes that a labelling page asks about."""
    return tuple(
        one.attrib["name"] for one in ElementTree.fromstring(page).iter("Choices") if one.attrib["name"] != SKIP
    )


def guide_html() -> str:
    """The guide that Label Studio shows before the first pair, and again on request."""
    return "<ul>" + "".join(f"<li>{line}</li>" for line in _GUIDE) + "</ul>"


# The panels of regions and relations, which pairs do not have, give their place to the videos.
_STYLE = """
.stage { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 8px; }
.question { display: grid; grid-template-columns: 12em 35em 1fr; align-items: center; gap: 0 1em; }
.question * { margin-top: 0; margin-bottom: 0; font-size: 14px; }
.question sup { font-size: 10px; }
.question .lsf-choice { min-width: 9em; }
.question h4:last-child:not(:first-child) { font-weight: normal; }
.lsf-sidepanels { padding-right: 0 !important; }
.lsf-sidepanels__wrapper_align_right { display: none; }
"""
