"""What deploy/README.md says under Kubernetes."""

import re
import textwrap

from .rendered import KUBERNETES

SECTION = (KUBERNETES.parent / "README.md").read_text(encoding="utf-8").split("\n## Kubernetes\n")[1].split("\n## ")[0]


def blocks(language):
    """Return the code of the fences with that word behind them."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", SECTION, re.MULTILINE | re.DOTALL)
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
