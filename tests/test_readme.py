"""The README's Python blocks run, in order, in one namespace; its shell blocks name commands that exist."""

import re
import shlex
from pathlib import Path

import pytest

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


def test_shell_blocks_parse():
    from emjax.extras.cli import _build_parser

    lines = [line for block in _blocks("bash") for line in block.splitlines() if line.startswith("emjax ")]
    assert lines
    for line in lines:
        _build_parser().parse_args(shlex.split(line)[1:])


def test_set_up_is_two_commands():
    block = TEXT.split("## Set up")[1].split("```bash\n")[1].split("```")[0]
    assert block.splitlines() == ['pip install -e ".[all,test]"', "pytest -n 2"]
