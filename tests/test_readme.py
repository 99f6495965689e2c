"""The README's Python blocks run, in order, in one namespace; its shell blocks name commands that exist."""

import re
import shlex
from pathlib import Path

import pytest

import emjax

TEXT = (Path(__file__).parents[1] / "README.md").read_text()


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.M | re.S)


@pytest.mark.slow
def test_python_blocks_run(capsys):
    blocks = _blocks("python")
    assert len(blocks) >= 5
    namespace = {}
    for block in blocks:
        exec(compile(block, "<README.md>", "exec"), namespace)
    assert "CONVERGED" in capsys.readouterr().out


def test_every_model_has_its_row_and_its_example():
    """Families, latent structures and models that the package exports, and every call that the table shows."""
    section = TEXT.split("\n## Models\n")[1].split("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")][1:]
    code = "".join(_blocks("python"))
    calls = {name for row in rows for name in re.findall(r"`(\w+)\(", row) + re.findall(r", (\w+)\(", row)}
    assert len(rows) >= 20 and [name for name in sorted(calls) if f"{name}(" not in code] == []
    settings = {text for row in rows for text in re.findall(r"\w+=\"\w+\"", row)}
    assert [text for text in sorted(settings) if text not in code] == []
    prepared = {name for name, value in vars(emjax).items() if isinstance(value, type) and hasattr(value, "prepare")}
    inside = {"Model", "Family", "Latent", "FamilyDefaults", "LogDensity", "MarkovChain", "GatedChain", "MixingWeights"}
    assert prepared - inside - calls == set()


def test_shell_blocks_parse():
    from emjax.extras.cli import _build_parser

    lines = [line for block in _blocks("bash") for line in block.splitlines() if line.startswith("emjax ")]
    assert lines
    for line in lines:
        _build_parser().parse_args(shlex.split(line)[1:])


def test_set_up_is_two_commands():
    block = TEXT.split("## Set up")[1].split("```bash\n")[1].split("```")[0]
    assert block.splitlines() == ['pip install -e ".[all,test]"', "pytest -n 2"]
