"""A gcloud that records each call, refuses options that the real one does not have, and remembers what was made.

Run as a program: GCLOUD_STATE names its folder. ``calls.jsonl`` there has the arguments of each call, ``cloud.json``
three things: ``there``, what exists, ``says``, what a command prints, ``fails``, how many more times a command fails.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

STATE = Path(os.environ.get("GCLOUD_STATE", "."))
FLAGS = {
    command: {"--format", "--flatten", *re.findall(r"--(?:\[no-\])?[a-z0-9-]+", flags)}
    for command, flags in (
        line.split("\t") for line in Path(__file__).with_name("flags.tsv").read_text().splitlines() if line[0] != "#"
    )
}
KINDS = {"run deploy": "run services", "storage rsync": "storage objects", "storage rm": "storage buckets"}


def parse(arguments):
    """Return command, positional arguments and options; exits as gcloud does if the command has no such option."""
    words = [word for word in arguments if not word.startswith("--")]
    command = max((name for name in FLAGS if words[: len(name.split())] == name.split()), key=len, default=None)
    if command is None:
        sys.exit(f"ERROR: (gcloud) Invalid choice: {' '.join(words)}")
    options = dict(word[2:].partition("=")[::2] for word in arguments if word.startswith("--"))
    for name in options:
        if not {f"--{name}", f"--[no-]{name.removeprefix('no-')}"} & FLAGS[command]:
            sys.exit(f"ERROR: (gcloud.{command.replace(' ', '.')}) unrecognized arguments: --{name}")
    return command, words[len(command.split()) :], options


def pairs(text):
    """Return KEY=VALUE,... as a dict, with gcloud's way to name another delimiter: ^|^."""
    delimiter = ","
    if text.startswith("^"):
        delimiter, text = text[1:].split("^", 1)
    return dict(part.split("=", 1) for part in text.split(delimiter))


def do(state, command, words, options):
    """Do what the command asks and return what it prints."""
    name, verb, there = (words or [""])[-1], command.split()[-1], state["there"]
    if command == "iam service-accounts create":
        name += "@a-project.iam.gserviceaccount.com"
    elif verb == "rsync":
        name += "/saved_model.pb"
    thing = f"{KINDS.get(command, command.rsplit(' ', 1)[0])} {name}"
    member = options.get("member", "").partition("serviceAccount:")[2]
    if state["fails"].get(command):
        state["fails"][command] -= 1
        sys.exit("ERROR: a failure that the test asked for.")
    if verb in ("create", "deploy", "rsync"):
        there.update({thing: True, f"run services {name}": True} if verb == "deploy" else {thing: True})
    elif verb in ("describe", "delete", "rm", "get-iam-policy", "add-iam-policy-binding") and thing not in there:
        sys.exit(f"ERROR: {thing} was not found.")
    elif verb in ("delete", "rm"):
        del there[thing]
    elif member and f"iam service-accounts {member}" not in there:
        sys.exit(f"ERROR: Service account {member} does not exist.")
    elif command == "secrets versions add":
        shutil.copyfile(options["data-file"], STATE / name)
    elif command == "secrets versions access":
        return (STATE / options["secret"]).read_text()
    elif options.get("format") == "value(status.url)":
        return f"https://{name}-abc123.a.run.app"
    return state["says"].get(command, "")


def main(arguments):
    with (STATE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    for group in ("RUN", "FUNCTIONS", "COMPUTE"):
        assert os.environ[f"CLOUDSDK_{group}_REGION"] == "europe-west4"
    assert os.environ["CLOUDSDK_CORE_PROJECT"] in ("a-project", "another")
    assert os.environ["CLOUDSDK_CORE_DISABLE_PROMPTS"] == "1"
    state = json.loads((STATE / "cloud.json").read_text())
    try:
        sys.stdout.write(do(state, *parse(arguments)))
    finally:
        (STATE / "cloud.json").write_text(json.dumps(state))


if __name__ == "__main__":
    main(sys.argv[1:])
