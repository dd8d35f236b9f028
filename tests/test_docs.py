"""The documents: every link leads somewhere, and the index of docs/ lists every page."""

import html
import os
import re
from functools import cache
from pathlib import Path

import pytest

from docs import sizes
from tests.documented import ON_A_CLUSTER, ON_THIS_MACHINE, README, blocks

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "k8s/**/*.md", "helm/**/*.md", "controller/**/*.md")
    for path in ROOT.glob(pattern)
)
_LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)")
_NAMED = re.compile(r"\bdocs/[a-z0-9_./-]+\.(?:md|json|ya?ml|py|png|svg)\b")


@cache
def _prose(path: Path) -> str:
    """The text of a page without its code blocks."""
    return re.sub(r"(?ms)^```.*?^```", "", path.read_text(encoding="utf-8"))


@cache
def _anchors(path: Path) -> set[str]:
    """The anchors that GitHub and GitLab make of the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#{1,6} (.+)$", _prose(path)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        base = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(next(name for n in range(99) if (name := f"{base}-{n}" if n else base) not in found))
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', _prose(path)))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_to_a_file_and_its_heading(page: Path) -> None:
    for target, anchor in _LINK.findall(_prose(ROOT / page)):
        if ":" not in target:
            path = Path(os.path.normpath(ROOT / page.parent / target)) if target else ROOT / page
            assert path.exists(), f"{page}: ({target}) does not exist"
            assert path.is_relative_to(ROOT)
            assert not anchor or path.suffix != ".md" or anchor in _anchors(path), f"{page}: ({target}#{anchor})"


def test_pages_that_code_and_messages_name_exist() -> None:
    checked = 0
    for pattern in (
        "controller/**/*.py",
        "chunk_job/**/*.py",
        "bench/**/*.py",
        "k8s/**/*.*",
        "helm/**/*.*",
        "docs/ci/*",
    ):
        for path in ROOT.glob(pattern):
            if path.is_file() and "__pycache__" not in path.parts:
                for name in _NAMED.findall(path.read_text(encoding="utf-8", errors="replace")):
                    assert (ROOT / name).exists(), f"{path.relative_to(ROOT)}: {name}"
                    checked += 1
    assert checked > 30


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {
        os.path.normpath(index.parent / target) for target, _ in _LINK.findall(_prose(index)) if ":" not in target
    }
    pages = {str(ROOT / page) for page in PAGES if page.parts[0] == "docs"} - {str(index)}
    assert pages <= listed, sorted(pages - listed)


def test_every_command_of_the_readme_and_the_tutorials_is_typed_by_a_test() -> None:
    tutorials = {str(page) for page in PAGES if page.parts[:2] == ("docs", "tutorials")}
    assert tutorials <= {*ON_THIS_MACHINE, *ON_A_CLUSTER}
    assert {README, *tutorials} <= {str(page) for page in PAGES}
    for page in (README, *tutorials):
        text = (ROOT / page).read_text(encoding="utf-8")
        fences = re.findall(r"(?m)^```(\w*)$", text)[::2]
        assert set(fences) <= {"console", "text"}, f"{page}: a shell block is fenced as console"
        assert fences.count("console") == len(blocks(page))
        assert all(block.commands for block in blocks(page))


def test_a_block_of_the_readme_is_for_one_machine_or_in_a_tutorial_for_a_cluster() -> None:
    of_tutorials = {command for page in ON_A_CLUSTER for block in blocks(page) for command in block.commands}
    for block in blocks(README):
        there = [command in of_tutorials for command in block.commands]
        assert all(there) or not any(there), block.commands
        assert all(there) or not any(re.match(r"kubectl|helm", command) for command in block.commands)


def test_the_sizes_in_the_readme_are_those_of_the_code() -> None:
    assert sizes.readme() == sizes.README.read_text(encoding="utf-8"), "run: python docs/sizes.py"
    assert sizes.table().count("\n") == len(sizes.CASES) + 2


def test_the_picture_of_a_terminal_needs_no_other_file_and_is_of_a_run_with_a_killed_job() -> None:
    picture = (ROOT / "docs" / "images" / "terminal.svg").read_text(encoding="utf-8")
    assert not re.search(r"url\((?!#)|href=|<script|<image|@import", picture)
    shown = html.unescape(re.sub(r"<[^>]*>", " ", picture)).replace("\xa0", " ")
    for part in ("stenofleet watch", "done after a failure 1", "DISRUPTED.deleted", "(SIGKILL)", "Timeline"):
        assert part in shown
