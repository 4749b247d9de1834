"""What deploy/kubernetes/README.md says."""

import re
import textwrap

from .rendered import KUBERNETES

PAGE = (KUBERNETES / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """Return the code of the fences with that word behind them."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", PAGE, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in found]


def block(language, word):
    """Return the one fence that starts with a word."""
    (found,) = [code for code in blocks(language) if code.startswith(word)]
    return found


def command(start):
    """Return the one command of a fence that starts so, its continued lines joined."""
    lines = "".join(blocks("sh")).replace("\\\n", "").splitlines()
    (found,) = [line for line in lines if line.startswith(start)]
    return found
