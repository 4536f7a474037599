"""The script that Streamlit runs for every visitor and every change of a filter. `palate dash` starts it."""

import hmac
import os
from functools import partial
from pathlib import Path

import streamlit as st

from dashboards.reader import opened
from dashboards.show import page
from dashboards.views import PAGES

STORE, PASSWORD, LOGIN = "PALATE_STORE", "PALATE_DASH_PASSWORD_FILE", "PALATE_DASH_LOGIN"


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
    """Whether this visitor has given what is asked of visitors, if anything is."""
    return _logged_in() and _knows_the_password()


def _logged_in() -> bool:
    """Whether nobody need log in, or the provider has said who this is and that is somebody who may look.

    `[palate] visitors` of the secrets lists addresses and, as @studio.org, domains; without it the provider decides.
    """
    if not os.environ.get(LOGIN):
        return True
    if not st.user.is_logged_in:
        st.title("Palate")
        st.button("Log in", on_click=st.login)
        return False
    visitors = st.secrets.get("palate", {}).get("visitors")
    address = str(st.user.get("email") or "").lower()
    known = st.user.get("email_verified") is True and {address, f"@{address.rpartition('@')[2]}"}
    if visitors is None or (known and known & {one.lower() for one in visitors}):
        return True
    st.error(f"{address or 'Somebody without an address'} may not look at this record.")
    st.button("Log out", on_click=st.logout)
    return False


def _knows_the_password() -> bool:
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
