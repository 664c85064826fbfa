"""What the site derives from the files, so that it cannot go stale: the list of decisions and the modules of the API pages."""

import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
DECISIONS = ROOT / "docs" / "decisions"
MODULES = re.compile(r"<!-- modules: (.+?) -->")


def decisions() -> list[Path]:
    """The pages of the folder, in the order of their numbers."""
    return sorted(p for p in DECISIONS.glob("*.md") if p.name != "index.md")


def title(page: Path) -> str:
    """The first heading of a page."""
    return next((line[2:].strip() for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("# ")), page.stem)


def modules() -> list[str]:
    """All public modules of the package."""
    paths = sorted((ROOT / "src" / "limbeck").rglob("*.py"))
    names = [".".join(p.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__") for p in paths]
    return [name for name in sorted(names) if not any(part.startswith("_") for part in name.split("."))]


def on_config(config):
    """Every decision gets its place in the navigation."""
    for entry in config.nav:
        if "Decisions" in entry:
            entry["Decisions"] += [f"decisions/{page.name}" for page in decisions()]
    return config


def on_page_markdown(markdown, page, **_):
    """Fill the two kinds of marks that the pages contain."""
    listed = "\n".join(f"- [{title(p)}]({p.name})" for p in decisions())
    return MODULES.sub(_documented, markdown.replace("<!-- decisions -->", listed))


def selected(mark: str) -> list[str]:
    """The modules that a mark asks for: patterns, and `!patterns` of what is left to another page."""
    wanted = [p for p in mark.split() if not p.startswith("!")]
    left_out = [p[1:] for p in mark.split() if p.startswith("!")]
    return [m for m in modules() if any(fnmatch(m, p) for p in wanted) and not any(fnmatch(m, p) for p in left_out)]


def _documented(mark: re.Match) -> str:
    return "\n\n".join(f"::: {name}" for name in selected(mark[1]))
