import json

import pytest

from deploy.export.labels import read_labels, read_ultralytics

ACCEPTED = [
    ("cat\n\n dog \n", {1: "cat", 2: "dog"}),
    ('["cat", "dog"]', {1: "cat", 2: "dog"}),
    ('{"3": "cat", "1": "dog"}', {1: "dog", 3: "cat"}),
    ('{"categories": [{"id": 90, "name": "toothbrush", "supercategory": "indoor"}]}', {90: "toothbrush"}),
    ('[{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]', {1: "person", 3: "car"}),
    ("\ufeffcat\n", {1: "cat"}),
    (
        'item {\n  name: "/m/01g317"\n  id: 1\n  display_name: "person"\n}\nitem { id: 3 name: \'car\' }\n',
        {1: "person", 3: "car"},
    ),
    ("# two\nitem: {\n id: 2\n name: 'dog'\n keypoints { id: 7 label: 'nose' }\n}\n", {2: "dog"}),
]
REFUSED = [
    ("", "at least one class"),
    ("{}", "at least one class"),
    ("item { id: 1 }", "an id and a name in each item"),
    ("item { id: 1 name: 'a' }\nitem { id: 1 name: 'b' }", "in which 1 comes twice"),
    ("[1, 2]", "no id and name"),
    ('{"cat": "1"}', "in which 'cat' is '1'"),
    ('{"1": 5}', "in which '1' is 5"),
    ('{"0": "background", "1": "cat"}', "ids from 1, as 0 is the background"),
    ('[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]', "class 1 comes twice"),
    ('[{"id": 1}]', "no id and name"),
    ('{"1": "cat"', "must be JSON"),
    ('{"categories": 5}', "no id and name"),
]


@pytest.mark.parametrize(("text", "labels"), ACCEPTED)
def test_every_form_is_read(tmp_path, text, labels):
    (tmp_path / "labels").write_text(text, encoding="utf-8")
    assert read_labels(tmp_path / "labels") == labels


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_wrong_is_named(tmp_path, text, message):
    (tmp_path / "labels").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / "labels")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "none", tmp_path / "bytes"):
        with pytest.raises(ValueError, match="must be a text file"):
            read_labels(path)


def test_cocos_own_categories(tmp_path):
    """COCO has 80 names with ids up to 90."""
    ids = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    categories = [{"id": number, "name": f"class {number}"} for number in ids]
    (tmp_path / "labels").write_text(json.dumps({"images": [], "categories": categories}))
    assert list(read_labels(tmp_path / "labels")) == ids


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("names:\n  0: person\n  2: 'no'\ntask: segment\n", {1: "person", 3: "no"}),
        ("task: segment\n", {}),
    ],
)
def test_ultralytics_metadata(tmp_path, text, labels):
    (tmp_path / "metadata.yaml").write_text(text)
    assert read_ultralytics(tmp_path / "metadata.yaml") == labels


@pytest.mark.parametrize(
    "text", ["names: [person]", "names: {0: 5}", "names: {person: 0}", "- 1", "names: {", "names: 5"]
)
def test_ultralytics_metadata_without_names_by_id(tmp_path, text):
    (tmp_path / "metadata.yaml").write_text(text)
    with pytest.raises(ValueError, match="must have names by class id, got "):
        read_ultralytics(tmp_path / "metadata.yaml")
