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
WIDE = {"--project", "--quiet", "--format", "--flatten"}
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
    if verb == "get-iam-policy":
        assert options["flatten"] == "bindings[].members"
        assert options["format"] == "value(bindings.role,bindings.members)"
        return "\n".join(f"{role}\t{member}" for member, role in bindings)
    kind, member = options["member"].split(":", 1)
    if kind == "serviceAccount" and member not in cloud["accounts"]:
        sys.exit(f"ERROR: Service account {member} does not exist.")
    if cloud.state.get("unknown_for"):  # how many more times an account that is there is not known yet
        cloud.state["unknown_for"] -= 1
        cloud.save()
        sys.exit(f"ERROR: Service account {member} does not exist.")
    bindings.append([options["member"], options["role"]])
    return ""


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
    if verb == "describe":
        return f"projects/1/secrets/{name}/versions/{cloud['secrets'][name]}" if name in cloud["secrets"] else None
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
    return deployed(cloud, words[0], options)


def do_functions(cloud, verb, words, options):
    if verb == "deploy":
        cloud["functions"][words[0]] = True
        return deployed(cloud, words[0], options)
    service = cloud["run"].get(words[0])
    if words[0] not in cloud["functions"]:
        return None
    if verb == "delete":
        del cloud["functions"][words[0]], cloud["run"][words[0]]
        return ""
    mark = service["labels"].get("segment-deployed", "")
    return {"value(name)": words[0], "value(labels.segment-deployed,state)": f"{mark}\tACTIVE"}[options["format"]]


def deployed(cloud, name, options):
    service = cloud["run"].setdefault(name, {"labels": {}, "revisions": [], "traffic": [["LATEST", 100, ""]]})
    service["env"] = pairs(options.get("set-env-vars", ""))
    if "allow-unauthenticated" in options:
        policy(cloud, f"run services {name}", "add-iam-policy-binding", {"member": "user:allUsers", "role": "r"})
    return revision(cloud, service, name, options)


def revision(cloud, service, name, options):
    """Make a revision, which becomes ready unless the test says otherwise; labels change in the same breath."""
    service["labels"].update(pairs(options["update-labels"]))
    service["args"] = options.get("args", service.get("args", ""))
    made = [f"{name}-{len(service['revisions']) + 1:05}", service["labels"]["segment-deployed"], "True"]
    if cloud.state.pop("fails", None):
        made[2] = "False"
    before = next((one[0] for one in reversed(service["revisions"]) if one[2] == "True"), None)
    service["revisions"].append(made)
    if "no-traffic" in options:
        service["traffic"] = [[before if to == "LATEST" else to, share, tag] for to, share, tag in service["traffic"]]
    if "tag" in options:
        service["traffic"].append([made[0], 0, options["tag"]])
    if made[2] == "False":
        cloud.save()
        sys.exit(f"ERROR: Revision {made[0]} is not ready and cannot serve traffic.")
    return ""


def do_run_services(cloud, verb, words, options):
    if verb == "list":
        name = options["filter"].removeprefix("metadata.name=")
        return "\n".join([*(one for one in cloud["run"] if one == name), *cloud.state.get("elsewhere", [])])
    service = cloud["run"].get(words[0])
    if service is None:
        return None
    if verb == "delete":
        del cloud["run"][words[0]]
    elif verb == "update":
        service.setdefault("env", {}).update(pairs(options.get("update-env-vars", "")))
        return revision(cloud, service, words[0], options)
    elif verb == "update-traffic":
        service["traffic"] = shared(service["traffic"], options)
    return described(service, words[0], options.get("format", ""))


def shared(traffic, options):
    """Return rows of revision, percent and tag as Cloud Run has them after update-traffic."""
    tags = [[to, 0, tag] for to, _, tag in traffic if tag and tag != options.get("remove-tags")]
    if "to-latest" in options:
        return [["LATEST", 100, ""], *tags]
    if "to-revisions" in options:
        return [[options["to-revisions"].removesuffix("=100"), 100, ""], *tags]
    if "to-tags" in options:
        tag, share = options["to-tags"].split("=")
        rest = [row for row in traffic if row[2] != tag]
        assert len(rest) == 1  # what would be shared out among several is not modelled
        return [[rest[0][0], 100 - int(share), ""], *([to, int(share), one] for to, _, one in traffic if one == tag)]
    return [row for row in traffic if row[2] != options["remove-tags"]]


def described(service, name, field):
    created = service["revisions"][-1][0]
    ready = next((one[0] for one in reversed(service["revisions"]) if one[2] == "True"), "")
    mark = service["labels"].get("segment-deployed", "")
    shares = [[ready if to == "LATEST" else to, share, tag] for to, share, tag in service["traffic"]]
    values = {
        "status.url": f"https://{name}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.a.run.app",
        "metadata.name": name,
        "metadata.labels.segment-deployed,status.latestCreatedRevisionName,status.latestReadyRevisionName": (
            f"{mark}\t{created}\t{ready}"
        ),
        "status.latestReadyRevisionName": ready,
        "status.traffic.revisionName,status.traffic.percent,status.traffic.tag": "\n".join(
            f"{to}\t{share or ''}\t{tag}" for to, share, tag in shares
        ),
        "spec.template.spec.containers[0].args.list()": service["args"],
        "": "",
    }
    return values[field[len("value(") : -1]]


def do_run_revisions(cloud, _, __, options):
    return "\n".join("\t".join(one) for one in reversed(cloud["run"][options["service"]]["revisions"]))


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
