"""Hooks of `make docs`: pages link to files of the repository with relative paths, which a site does not have.

Pictures of `results/` are copied into the site. Links to other files become the name of the file, because the site does
not say where the repository is kept.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PICTURES = (".png", ".svg")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the published figures under the path that they have in the repository."""
    root = Path(config.config_file_path).parent
    for path in sorted((root / "results").rglob("*")):
        if path.suffix in PICTURES:
            name = path.relative_to(root).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Returns the page with links that leave `docs/` turned into what a site can show."""
    folder = posixpath.dirname(page.file.src_uri)
    depth = folder.count("/") + 1 if folder else 0

    def turned(match: re.Match[str]) -> str:
        picture, text, target = match[1], match[2], match[3]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/"):
            return match[0]
        if path.endswith(PICTURES):
            return f"{picture}[{text}]({'../' * depth}{path})"
        return text if picture == "" else ""

    return LINK.sub(turned, markdown)
