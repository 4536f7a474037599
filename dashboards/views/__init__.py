"""The pages, a file each: a title, and `content`, which asks what is wanted and yields what there is to see.

(Streamlit would take a folder named `pages` for its own.)
"""

from collections.abc import Callable, Mapping

from dashboards.exhibit import Ask, Content
from dashboards.reader import Reader
from dashboards.views import annotators, benchmarks, gsb, leaderboard, overview, rewards, samples, scaling, training

PAGES: Mapping[str, Callable[[Reader, Ask], Content]] = {
    page.TITLE: page.content
    for page in (overview, gsb, leaderboard, samples, annotators, rewards, training, scaling, benchmarks)
}
