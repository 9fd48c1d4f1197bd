"""The app as a reviewer meets it: `medssl review`, a real browser, a verdict in SQLite."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# The last four keep Chromium from calling home, so that what is counted is the page's doing.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium on this machine"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.fixture
def port(results_folder: Path) -> Iterator[int]:
    """`medssl review` on a free port; stopping it must stop the server it started."""
    port = free_port()
    command = "from medssl.cli import main; main()"
    arguments = ["review", str(results_folder), "--port", str(port), "--no-browser"]
    environment = {key: value for key, value in os.environ.items() if "PROXY" not in key.upper()}
    with subprocess.Popen(
        [sys.executable, "-c", command, *arguments], env=environment, stdout=subprocess.DEVNULL
    ) as review:
        try:
            deadline = time.monotonic() + 60
            while not answers(port) and time.monotonic() < deadline:
                assert review.poll() is None, "medssl review ended early"
                time.sleep(0.2)
            yield port
        finally:
            review.send_signal(signal.SIGTERM)
            review.wait(timeout=20)
    assert not answers(port)


def test_accept_in_a_browser(port: int, results_folder: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    hosts: set[str | None] = set()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.on("request", lambda request: hosts.add(urlparse(request.url).hostname))
        page.goto(f"http://127.0.0.1:{port}")
        expect = sync_api.expect
        expect(page.locator("[data-testid=stImage] img")).to_have_count(3, timeout=60_000)
        page.get_by_label("Reviewer").fill("Ada")
        page.get_by_placeholder("Comment").fill("seen in a browser")
        page.get_by_role("button", name="Accept").click()
        expect(page.get_by_text("1 of 3 reviewed")).to_be_visible(timeout=30_000)
        expect(page.locator(".case")).to_have_text("case-b")
        # nothing but the case may be on screen, and no button to publish it
        expect(page.get_by_text("Deploy")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollHeight") <= 900
        browser.close()
    with sqlite3.connect(results_folder / "verdicts.db") as database:
        rows = database.execute("SELECT case_id, reviewer, decision, comment FROM verdicts")
        assert rows.fetchall() == [("case-a", "Ada", "accept", "seen in a browser")]
    # a data: or blob: address has no host
    assert hosts - {None, ""} == {"127.0.0.1"}
