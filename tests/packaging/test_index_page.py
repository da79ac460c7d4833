"""What the package index shows: the README, whose links lead somewhere from there; and one address of the project.

The index knows no other file of the repository, so links and pictures have to be absolute.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import redunet

ROOT = Path(__file__).parents[2]
REPOSITORY = re.compile(r"https://(?:github\.com|raw\.githubusercontent\.com)/(redunet/[\w.-]+?)(?=[/\s\"')]|\.git|$)")


def targets(text: str) -> list[str]:
    """Where links and pictures of Markdown, or of HTML in it, lead; code is left out."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:href|src)=[\"']([^\"']+)", text)


def test_links_of_the_index_page_are_absolute(metadata):
    page = metadata["Description"] or metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    found = targets(page)
    assert len(found) > 10
    assert [target for target in found if not target.startswith(("https://", "#"))] == []


def test_pictures_of_the_index_page_are_files_of_the_tag(metadata):
    page = metadata["Description"] or metadata.get_payload()
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page)
    start = f"{repository(metadata).replace('github.com', 'raw.githubusercontent.com')}/v{redunet.__version__}/"
    assert pictures
    assert all(picture.startswith(start) for picture in pictures)
    if (ROOT / "docs").is_dir():
        assert [picture for picture in pictures if not (ROOT / picture.removeprefix(start)).is_file()] == []


def repository(metadata) -> str:
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL"))
    assert {"Repository", "Documentation", "Changelog", "Issues"} <= set(urls)
    return urls["Repository"]


def test_the_project_has_one_address(metadata):
    """Files that cannot read pyproject.toml repeat its Repository; none says another."""
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("the sources are not here")
    name = repository(metadata).removeprefix("https://github.com/")
    files = [ROOT / file for file in ("pyproject.toml", "README.md", "CITATION.cff", "SECURITY.md", "CHANGELOG.md")]
    files += [path for folder in (".github", "docs") for path in (ROOT / folder).rglob("*.[my]*")]
    found = {
        (path.relative_to(ROOT).as_posix(), other)
        for path in files
        if path.is_file()
        for other in REPOSITORY.findall(path.read_text(encoding="utf-8"))
    }
    assert {other for _, other in found} == {name}, found


def test_authors_and_keywords(metadata):
    assert metadata["Author"] == "The redunet developers"
    assert "ReduNet" in metadata["Keywords"].split(",")
