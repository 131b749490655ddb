"""What README.md and docs/ name exists: files, tools with their options, configuration keys."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.engine import default_argument_parser

from detr_d2 import add_detr_config, cli
from detr_d2.engine.tools import add_imports

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
KEY = re.compile(r"\b(?:MODEL|INPUT|DATASETS|DATALOADER|SOLVER|TEST)(?:\.[A-Z][A-Z0-9_]*)+\b")


def commands(text: str) -> list[str]:
    """The command lines of a page, continued lines joined: `python tools/...`, `python -m
    benchmarks ...` and `detr-d2 ...`.
    """
    blocks = "\n".join(re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE))
    lines = blocks.replace("\\\n", " ").splitlines()
    inline = re.findall(
        r"`(?:python )?(tools/\w+\.py [^`]*|-m benchmarks[^`]*|detr-d2 [a-z][^`]*)`", text
    )
    return [
        line
        for line in lines
        if re.search(r"python tools/|python -m benchmarks|detr-d2 [a-z]", line)
    ] + inline


def options_of(tool: str) -> set[str]:
    """Of a file of tools/, of `benchmarks`, or of a command of detr-d2."""
    file = REPOSITORY / "tools" / f"{tool}.py"
    if tool == "benchmarks":
        file = REPOSITORY / "benchmarks" / "__main__.py"
    source = file.read_text() if file.exists() else f'run("{tool}")'
    if command := re.search(r"\brun\(\"([\w-]+)\"\)", source):
        module = cli.module_of(command[1])
        source = inspect.getsource(module)
        for helpers in re.findall(r"^from \. import ([\w, ]+)$", source, re.MULTILINE):
            for helper in helpers.split(", "):
                source += inspect.getsource(import_module(f"{cli.__name__}.{helper}"))
        if module is cli.module_of("train"):
            parser = default_argument_parser()
            add_imports(parser)
            return set(parser._option_string_actions)
    shared = {"--help", *(["--import"] if "add_overrides(" in source else [])}
    return {*re.findall(r"\"(--[a-z0-9-]+)\"", source), *shared}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page):
    text = page.read_text()
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    for file in re.findall(
        r"\b(?:configs|docs|detr_d2|benchmarks|tests)/[\w/.-]+\.(?:yaml|md|py|pth)\b", text
    ):
        assert (REPOSITORY / file).exists(), file
    for command in commands(text):
        (tool,) = re.findall(r"tools/(\w+)\.py|-m (benchmarks)|detr-d2 ([a-z][\w-]*)", command)
        tool = "".join(tool)
        own, _, submitted = command.partition(" -- ")  # of `submit`, a command and its options
        parts = [(own, tool), (submitted, submitted.split()[0])] if submitted else [(own, tool)]
        for part, of_tool in parts:
            unknown = set(re.findall(r"(?<![\w-])--[a-z0-9-]+", part)) - options_of(of_tool)
            assert not unknown, command
    cfg = get_cfg()
    add_detr_config(cfg)
    # Code of a reader's own may have keys of its own.
    for key in KEY.findall(
        re.sub(r"^```python\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    ):
        node = cfg
        for part in key.split("."):
            assert part in node, key
            node = node[part]
            if node is cfg.DATASETS.REGISTER:  # what follows is the name of a dataset
                break


def test_the_check_finds_commands():
    assert len(commands((REPOSITORY / "README.md").read_text())) > 5
    assert options_of("demo") >= {"--input", "--output"} and "--resume" in options_of("train_net")
    assert options_of("eval") == options_of("train_net")


def test_every_command_is_one():
    for command in cli.COMMANDS:
        assert callable(cli.module_of(command).main)
