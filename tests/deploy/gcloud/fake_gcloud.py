"""A gcloud that records each call, refuses options that the real one does not have, and remembers what was made.

Run as a program: GCLOUD_STATE names its folder. ``calls.jsonl`` has the arguments of each call, ``cloud.json`` what
there is, ``bucket`` and ``secrets`` hold contents.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

STATE = Path(os.environ["GCLOUD_STATE"]) if "GCLOUD_STATE" in os.environ else None
FLAGS = {
    command: set(re.findall(r"--(?:\[no-\])?[a-z0-9-]+", flags))
    for command, flags in (
        line.split("\t") for line in Path(__file__).with_name("flags.tsv").read_text().splitlines() if line[0] != "#"
    )
}
WIDE = {"--project", "--quiet", "--format", "--filter", "--flatten", "--sort-by"}
READS = {"describe", "list", "get-iam-policy", "access", "ls", "cat"}
CONTENTS = {"storage cat", "secrets versions access"}


class Cloud:
    """What there is, as JSON that is read at the start of a call and written at its end."""

    def __init__(self):
        self._path = STATE / "cloud.json"
        self.state = json.loads(self._path.read_text())

    def save(self):
        there = {kind: things for kind, things in self.state.items() if things}
        self._path.write_text(json.dumps(there, sort_keys=True))

    def __getitem__(self, kind):
        return self.state.setdefault(kind, {})


def parse(arguments):
    """Return command, positional arguments and options; exits as gcloud does where the command has no such option."""
    words = [word for word in arguments if not word.startswith("--")]
    command = max((name for name in FLAGS if words[: len(name.split())] == name.split()), key=len, default=None)
    if command is None:
        sys.exit(f"ERROR: (gcloud) Invalid choice: {' '.join(words)}")
    options = {}
    for word in (word for word in arguments if word.startswith("--")):
        name, _, value = word.partition("=")
        bare = name.replace("--no-", "--", 1)
        if not {name, f"--[no-]{bare[2:]}"} & FLAGS[command] and name not in WIDE:
            sys.exit(f"ERROR: (gcloud.{command.replace(' ', '.')}) unrecognized arguments: {word}")
        options[name[2:]] = value
    return command, words[len(command.split()) :], options


def pairs(text):
    """Return KEY=VALUE,... as a dict, with gcloud's way to name another delimiter: ^|^."""
    delimiter = ","
    if text.startswith("^"):
        delimiter, text = text[1:].split("^", 1)
    return dict(part.split("=", 1) for part in text.split(delimiter) if part)


def answer(cloud, command, words, options):
    """Do what the command asks; returns what it prints, None where something is not there."""
    topic, verb = command.rsplit(" ", 1)
    if verb in ("get-iam-policy", "add-iam-policy-binding"):
        return policy(cloud, f"{topic} {words[0]}", verb, options)
    return globals()[f"do_{topic.replace(' ', '_').replace('-', '_')}"](cloud, verb, words, options)


def policy(cloud, target, verb, options):
    bindings = cloud["policies"].setdefault(target, [])
    if verb == "add-iam-policy-binding":
        kind, member = options["member"].split(":", 1)
        if kind == "serviceAccount" and member not in cloud["accounts"]:
            sys.exit(f"ERROR: Service account {member} does not exist.")
        bindings.append([options["member"], options["role"]])
        return ""
    member, role = re.fullmatch(r"bindings.members='(.*)' AND bindings.role='(.*)'", options["filter"]).groups()
    return role if [member, role] in bindings else ""


def do_projects(cloud, _, words, __):
    return words[0] if words[0] in cloud["projects"] else None


def do_services(cloud, verb, words, _):
    if verb == "list":
        return "\n".join(cloud["services"])
    cloud["services"].update(dict.fromkeys(words, True))
    return ""


def do_iam_service_accounts(cloud, verb, words, options):
    if verb == "create":
        cloud["accounts"][f"{words[0]}@{options['project']}.iam.gserviceaccount.com"] = options["display-name"]
        return ""
    if words[0] not in cloud["accounts"]:
        return None
    if verb == "delete":
        del cloud["accounts"][words[0]]
    return words[0]


def do_secrets(cloud, verb, words, options):
    if verb == "create":
        cloud["secrets"][words[0]] = 1
        shutil.copyfile(options["data-file"], STATE / "secrets" / f"{words[0]}-1")
    return words[0] if words[0] in cloud["secrets"] else None


def do_secrets_versions(cloud, verb, words, options):
    name = words[0] if verb == "add" else options["secret"]
    if verb == "add":
        cloud["secrets"][name] += 1
        shutil.copyfile(options["data-file"], STATE / "secrets" / f"{name}-{cloud['secrets'][name]}")
        return ""
    return (STATE / "secrets" / f"{name}-{cloud['secrets'][name]}").read_text()


def do_storage_buckets(cloud, verb, words, options):
    if verb == "create":
        assert {"uniform-bucket-level-access", "public-access-prevention"} <= set(options)
        cloud["buckets"][words[0]] = options["location"]
    return words[0] if words[0] in cloud["buckets"] else None


def do_storage(cloud, verb, words, _):
    def place(url):
        return STATE / "bucket" / url.removeprefix("gs://") if url.startswith("gs://") else Path(url)

    if verb in ("rsync", "cp"):
        source, target = map(place, words)
        target.parent.mkdir(parents=True, exist_ok=True)
        if verb == "cp":
            shutil.copyfile(source, target)
        else:
            shutil.copytree(source, target, dirs_exist_ok=True)
    elif verb == "rm":
        shutil.rmtree(place(words[0]))
        del cloud["buckets"][words[0]]
    elif not place(words[0]).is_file():
        return None
    elif verb == "cat":
        return place(words[0]).read_text()
    return words[0]


def do_compute_networks_subnets(cloud, verb, words, _):
    if verb == "update":
        cloud["subnets"][words[0]] = "True"
    return cloud["subnets"].get(words[0], "False")


def do_run(cloud, _, words, options):
    return deployed(cloud, words[0], options, options["update-labels"])


def do_functions(cloud, verb, words, options):
    if verb == "describe":
        found = cloud["run"].get(words[0])
        return found["labels"].get("segment-deployed", "") if found else None
    return deployed(cloud, words[0], options, options["update-labels"])


def deployed(cloud, name, options, labels):
    service = cloud["run"].setdefault(name, {"labels": {}, "revisions": [], "serving": None, "latest": True})
    service["labels"].update(pairs(labels))
    service["env"] = pairs(options.get("set-env-vars", ""))
    service["public"] = "allow-unauthenticated" in options
    return revision(service, name)


def revision(service, name, traffic=True):
    service["revisions"].append(f"{name}-{len(service['revisions']) + 1:05}")
    if service["latest"] and traffic:
        service["serving"] = service["revisions"][-1]
    return ""


def do_run_services(cloud, verb, words, options):
    service = cloud["run"].get(words[0])
    if service is None:
        return None
    if verb == "delete":
        del cloud["run"][words[0]]
    elif verb == "update":
        service["labels"].update(pairs(options["update-labels"]))
        service["env"].update(pairs(options["update-env-vars"]))
        service["latest"] = service["latest"] and "no-traffic" not in options
        return revision(service, words[0], "no-traffic" not in options)
    elif verb == "update-traffic":
        if "to-latest" in options:
            service.update(serving=service["revisions"][-1], latest=True)
        elif "to-revisions" in options:
            service.update(serving=options["to-revisions"].removesuffix("=100"), latest=False)
        else:
            service["split"] = options["to-tags"]
    return described(service, words[0], options.get("format", ""))


def described(service, name, field):
    values = {
        "value(status.url)": f"https://{name}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.a.run.app",
        "value(metadata.name)": name,
        "value(metadata.labels.segment-deployed)": service["labels"].get("segment-deployed", ""),
        "value(status.traffic[0].latestRevision,status.traffic[0].percent)": f"{service['latest'] or ''}\t100",
        "value(status.traffic[0].revisionName)": service["serving"],
        "": "",
    }
    return values[field]


def do_run_revisions(cloud, _, __, options):
    return "\n".join(reversed(cloud["run"][options["service"]]["revisions"]))


def main(arguments):
    with (STATE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    cloud = Cloud()
    command, words, options = parse(arguments)
    printed = answer(cloud, command, words, options)
    if printed is None:
        sys.exit("ERROR: NOT_FOUND")
    cloud.save()
    sys.stdout.write(printed if command in CONTENTS else f"{printed}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
