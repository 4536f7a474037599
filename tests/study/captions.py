"""Does a caption that scores better make a better video? VidCapBench's claim in the shapes world: docs/captions.md.

    python tests/study/captions.py --captions 300

Held-out scenes are told with none to all of their five facts wrong. Each caption is scored by VidCapBench's protocol
(questions answered from the caption by a scripted model, marked by a scripted judge, both behind a real server), and
given to the shipped generator; the video is scored by the verifier against the scene that was meant.
"""

import argparse
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import vidcap_shapes, vidcapbench
from benchmarks.vidcap_shapes import FACTS
from models.generator import Generator, SamplerSettings
from models.weights import SHIPPED
from palate import shapes
from palate.records import Estimate
from palate.stats.metric import kendall, spearman
from rewards.chat import Chat, ChatSettings

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripted_judge import serving

OUT = Path(__file__).parents[2] / "docs" / "captions.md"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--captions", type=int, default=300)
    options.add_argument("--seed", type=int, default=0)
    told = options.parse_args()
    rng = np.random.default_rng(told.seed)
    meant = vidcap_shapes.scenes(told.captions, told.seed)
    wrong = rng.integers(0, len(FACTS) + 1, told.captions)
    captions = [
        str(vidcap_shapes.mistold(scene, rng.choice(FACTS, n, replace=False), rng)) for scene, n in zip(meant, wrong)
    ]
    accuracy = caption_scores(meant, captions)
    video = video_scores(meant, captions)
    names = [str(at) for at in range(told.captions)]
    rows = [(one.method, shown(one)) for one in (spearman(accuracy, video, names), kendall(accuracy, video, names))]
    means = [(level, int((accuracy == level).sum()), video[accuracy == level].mean()) for level in np.unique(accuracy)]
    text = report(told.captions, told.seed, rows, means)
    OUT.write_text(text)
    print(text)


def caption_scores(meant: list[shapes.Scene], captions: list[str]) -> np.ndarray:
    """Each caption's accuracy, 0..100."""
    with TemporaryDirectory() as folder, serving() as server:
        asked = vidcapbench.load(*vidcap_shapes.write(Path(folder), meant, captions))
        with closing(Chat(ChatSettings(url=server.url), Path(folder) / "replies")) as chat:
            marked = vidcapbench.run(asked, 1, chat, chat)
    marks = np.array([one.mark for one in marked]).reshape(len(meant), len(FACTS))
    return 100 * (marks == 2).mean(axis=1)


def video_scores(meant: list[shapes.Scene], captions: list[str]) -> np.ndarray:
    """The share of the verifier's checks of what was meant that hold in the video of what was told."""
    generator = Generator.load_for_worker(SHIPPED)
    scores: list[float] = []
    for start in range(0, len(captions), 32):
        part = captions[start : start + 32]
        clips = generator.clips(part, list(range(start, start + len(part))), SamplerSettings())
        scores += [shapes.check(shapes.observe(clip), scene).fraction for clip, scene in zip(clips, meant[start:])]
    return np.array(scores)


def shown(one: Estimate) -> str:
    value, low, high = ("–" if x is None else f"{x:.2f}" for x in (one.value, one.low, one.high))
    return f"{value} [{low}, {high}], n = {one.n}"


def report(count: int, seed: int, rows: list[tuple[str, str]], means: list[tuple[float, int, float]]) -> str:
    lines = [
        "# Caption score against the score of the video made from it",
        "",
        f"Written by `python tests/study/captions.py --captions {count} --seed {seed}`: {count} held-out scenes of the",
        "shapes world, told with none to all of their five facts wrong, scored by VidCapBench's protocol (scripted",
        "model and judge), and drawn by the shipped generator (8 steps), whose videos the verifier scores against the",
        "scene that was meant.",
        "",
        "| correlation | value [95%], over captions |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        "| caption accuracy | captions | mean video score |",
        "|---|---|---|",
        *(f"| {level:.0f}% | {size} | {mean:.2f} |" for level, size, mean in means),
        "",
        "The captions are wrong by design and evenly spread, which makes a correlation larger than among real",
        "captioners, who differ less; and the world is one where a caption says everything there is to say.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
