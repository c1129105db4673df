"""Artefacts are whole or absent, and what the system refuses is one sentence."""

import json

import pytest

from zwicky.io import (
    UserError,
    append_jsonl,
    atomic_folder,
    atomic_path,
    check_writable,
    require_file,
    require_writable,
    write_json,
)


def _write_half(context, file):
    with context as part:
        file(part).write_text("half")
        raise RuntimeError("mid-way")


@pytest.mark.parametrize("before", [None, "old"])
def test_failure_leaves_what_was_there_and_nothing_else(tmp_path, before):
    path = tmp_path / "a.txt"
    if before:
        path.write_text(before)
    with pytest.raises(RuntimeError, match="mid-way"):
        _write_half(atomic_path(path), lambda part: part)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == ([("a.txt", "old")] if before else [])


def test_the_final_name_appears_only_when_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_path(path) as part:
        part.write_text("ha")
        assert not path.exists()
        assert part.parent == path.parent
        with part.open("a") as f:
            f.write("lf")
    assert path.read_text() == "half"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_files_obey_the_umask(tmp_path):
    with atomic_path(tmp_path / "a") as part:
        part.write_text("")
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_failure_in_a_folder_leaves_the_old_folder(tmp_path):
    folder = tmp_path / "model"
    for content in ("old", "new"):
        with atomic_folder(folder) as part:
            (part / content).write_text(content)
        assert [p.name for p in folder.iterdir()] == [content]
    with pytest.raises(RuntimeError, match="mid-way"):
        _write_half(atomic_folder(folder), lambda part: part / "newer")
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def _enter(context):
    with context:
        pass


REFUSED = {
    "atomic_path": lambda folder: _enter(atomic_path(folder / "x")),
    "atomic_folder": lambda folder: _enter(atomic_folder(folder / "x")),
    "require_writable": require_writable,
    "check_writable": check_writable,
    "write_json": lambda folder: write_json(folder / "x", {}),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("below", ["", "deeper"])
def test_below_a_regular_file_nothing_can_be_written(tmp_path, refused, below):
    """Holds for root too, unlike a folder without permission to write."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot write into the folder") as caught:
        refused(tmp_path / "file" / below)
    assert len(str(caught.value).splitlines()) == 1
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "mine")]


def test_a_file_does_not_replace_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="cannot write"), atomic_path(tmp_path / "a") as part:
        part.write_text("")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_name_too_long_is_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match="cannot write"), atomic_path(tmp_path / ("x" * 254)):
        pass


def test_checking_makes_no_folder(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_a_file(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"the thing .* does not exist or is not a file"):
            require_file(path, "the thing")


def test_lines_of_json_are_appended(tmp_path):
    records = [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 1 / 3}]
    for record in records:
        append_jsonl(tmp_path / "stats.jsonl", record)
    assert [json.loads(line) for line in (tmp_path / "stats.jsonl").read_text().splitlines()] == records
