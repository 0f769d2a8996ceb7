"""The page for people who come from Ray says what is true, as far as names and defaults go."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import scalepool
from scalepool.actors import ActorOptions

PAGE = (Path(__file__).parent.parent / "docs" / "from_ray.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(scalepool(?:\.\w+)+)", PAGE)))


def test_there_are_names() -> None:
    assert len(NAMES) > 25


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_page_exists(name: str) -> None:
    parts = name.split(".")
    for at in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:at]))
        except ModuleNotFoundError:
            continue
        for part in parts[at:]:
            found = getattr(found, part)
        return
    pytest.fail(f"there is no {name}")


def test_defaults_are_as_the_page_says() -> None:
    assert ActorOptions().max_restarts == ActorOptions().max_task_retries == 0
    assert inspect.signature(scalepool.wait).parameters["num_returns"].default == 1
    assert inspect.signature(scalepool.get).parameters["copy"].default == "never"
    with pytest.raises(ValueError, match="detached"):
        ActorOptions().updated({"lifetime": "for ever"})
    with pytest.raises(TypeError, match="runtime_env"):
        scalepool.remote(runtime_env={})


def test_links_lead_to_pages() -> None:
    folder = Path(__file__).parent.parent / "docs"
    for target in re.findall(r"\]\(([\w.]+)(?:#[\w-]+)?\)", PAGE):
        assert (folder / target).exists(), target
