"""The script that Streamlit runs for every visitor and every change of a filter. `palate dash` starts it."""

import hmac
import os
from functools import partial
from pathlib import Path

import streamlit as st

from dashboards.reader import opened
from dashboards.show import page
from dashboards.views import PAGES

STORE, PASSWORD = "PALATE_STORE", "PALATE_DASH_PASSWORD_FILE"


def main() -> None:
    st.set_page_config(page_title="Palate", page_icon="⚖️", layout="wide")
    if not _admitted():
        return
    reader = opened(os.environ[STORE])
    pages = [
        st.Page(partial(page, reader, title, content), title=title, url_path=title.lower(), default=not at)
        for at, (title, content) in enumerate(PAGES.items())
    ]
    st.navigation(pages).run()


def _admitted() -> bool:
    """Whether there is no password, or this visitor has given it."""
    file = os.environ.get(PASSWORD)
    if not file or st.session_state.get("admitted"):
        return True
    given = st.text_input("Password", type="password")
    wanted = Path(file).read_text(encoding="utf-8").strip()
    if given and wanted and hmac.compare_digest(given.encode(), wanted.encode()):
        st.session_state["admitted"] = True
        st.rerun()
    if given:
        st.error("That is not the password.")
    return False


if __name__ == "__main__":
    main()
