"""The manifest and the pointer: what is written is read back, and nothing else is accepted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_ecs_runtime import manifest as m

ROOT = Path(__file__).parents[3]
SHA = "ab" * 32


def entry(path: str = "main/__init__.py", **changes: Any) -> m.FileEntry:
    return replace(m.FileEntry(path, 3, SHA, "v1"), **changes)


def build(
    files: tuple[m.FileEntry, ...] = (entry(), entry("main/assets.py")),
    locations: tuple[m.CodeLocation, ...] = (m.CodeLocation("main", "dags.main"),),
) -> m.Manifest:
    identifier = m.release_id(files, locations)
    return m.Manifest(identifier, "2026-01-31T12:00:00Z", "ada", None, locations, files)


POINTER = m.Pointer("0123456789abcdef", "v9", "2026-01-31T12:00:00.123456Z", "ada", "a1b2c3", None)


def document(**changes: Any) -> bytes:
    return json.dumps(json.loads(m.dump_manifest(build())) | changes).encode()


def test_manifest_survives_the_round_trip() -> None:
    assert m.parse_manifest(m.dump_manifest(build())) == build()


@pytest.mark.parametrize("previous", [None, "fedcba9876543210"])
def test_pointer_survives_the_round_trip(previous: str | None) -> None:
    pointer = replace(POINTER, previous=previous)
    assert m.parse_pointer(m.dump_pointer(pointer)) == pointer


def test_documents_say_their_schema() -> None:
    assert json.loads(m.dump_manifest(build()))["schema"] == m.SCHEMA
    assert json.loads(m.dump_pointer(POINTER))["schema"] == m.SCHEMA


def test_release_without_locations_and_files_is_a_release() -> None:
    assert m.parse_manifest(m.dump_manifest(build((), ()))).files == ()


def test_id_depends_on_content_and_not_on_order_or_versions() -> None:
    files = [entry(), entry("main/assets.py")]
    locations = [m.CodeLocation("main", "dags.main"), m.CodeLocation("b", "dags.b")]
    identifier = m.release_id(files, locations)
    assert m.release_id(reversed(files), reversed(locations)) == identifier
    assert m.release_id([replace(file, version_id="other") for file in files], locations) == identifier
    assert m.release_id([entry(sha256="cd" * 32), files[1]], locations) != identifier
    assert m.release_id(files, locations[:1]) != identifier


def test_id_is_the_one_that_published_manifests_have() -> None:
    """A changed rule would make every platform publish its unchanged tree again."""
    assert m.release_id([entry()], [m.CodeLocation("main", "dags.main")]) == "ac456db2d88df763"


FINANCE = m.Repository("finance", ("finance",), "a1b2c3", "ada", "2026-01-31T12:00:00Z")


def several(*repositories: m.Repository) -> m.Manifest:
    """Return a manifest of two code locations with these owners."""
    files = (entry("finance/__init__.py"), entry())
    locations = (m.CodeLocation("finance", "dags.finance"), m.CodeLocation("main", "dags.main"))
    identifier = m.release_id(files, locations, repositories)
    return m.Manifest(identifier, "2026-01-31T12:00:00Z", "ada", None, locations, files, repositories)


def test_several_repositories_survive_the_round_trip() -> None:
    manifest = several(FINANCE, replace(FINANCE, name="platform-team", locations=("main",), git_revision=None))
    assert m.parse_manifest(m.dump_manifest(manifest)) == manifest
    pointer = replace(POINTER, repository="finance")
    assert m.parse_pointer(m.dump_pointer(pointer)) == pointer


def test_documents_of_a_single_repository_do_not_mention_any() -> None:
    """So that containers of an image from before go on reading them."""
    assert "repositories" not in json.loads(m.dump_manifest(build()))
    assert "repository" not in json.loads(m.dump_pointer(POINTER))


def test_id_depends_on_who_owns_what_and_not_on_when_it_was_published() -> None:
    assert several().id != several(FINANCE).id
    assert several(FINANCE).id != several(replace(FINANCE, name="other")).id
    assert several(FINANCE).id == several(replace(FINANCE, author="bob", published_at="2026-02-01T00:00:00Z")).id


@pytest.mark.parametrize(
    ("repositories", "why"),
    [
        ((FINANCE, FINANCE), "the repository 'finance' is listed twice"),
        ((FINANCE, replace(FINANCE, name="other")), "the location 'finance' has two owners"),
        ((replace(FINANCE, locations=("hr",)),), "owns the location 'hr', which is not listed"),
        ((replace(FINANCE, locations=()),), r"locations \[\] is not a list of names, or empty"),
        ((replace(FINANCE, name="a/b"),), "repository 'a/b' is not a name of at most 63 letters"),
        ((replace(FINANCE, name="x" * 64),), "is not a name of at most 63 letters"),
        ((replace(FINANCE, published_at="yesterday"),), "published_at 'yesterday' is not a UTC time"),
        ((replace(FINANCE, author=""),), "author '' is not text, or empty"),
    ],
)
def test_refused_repositories(repositories: tuple[m.Repository, ...], why: str) -> None:
    with pytest.raises(m.ManifestError, match=why):
        m.parse_manifest(m.dump_manifest(several(*repositories)))


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a b", "ü"])
def test_refused_repository_names(name: str) -> None:
    with pytest.raises(m.ManifestError, match="is not a name of at most"):
        m.validate_repository_name(name)


def test_keys() -> None:
    assert m.pointer_key("") == "releases/current"
    assert m.manifest_key("team/", "0123456789abcdef") == "team/releases/0123456789abcdef.json"
    assert m.file_key("", "main/assets.py") == "dags/main/assets.py"


@pytest.mark.parametrize("path", ["a.py", "main/a.py", "…/ü.sql", "a b/c", "..a/b..", "x" * 255])
def test_accepted_paths(path: str) -> None:
    assert m.validate_path(path) == path


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "is empty"),
        ("/etc/passwd", "is absolute"),
        ("../x", "segment '..'"),
        ("a/../../x", "segment '..'"),
        ("a/./x", "segment '.'"),
        ("a//x", "segment ''"),
        ("a/", "segment ''"),
        (".", "segment '.'"),
        ("a\\b", "backslash"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a/" * 512 + "b", "bytes long"),
        ("x" * 256, "more than 255 bytes"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_refused_paths(path: str, why: str) -> None:
    with pytest.raises(m.ManifestError, match=why):
        m.validate_path(path)


@given(st.text(alphabet=st.sampled_from("./\\a\0é"), max_size=12))
def test_an_accepted_path_stays_below_any_root(path: str) -> None:
    try:
        m.validate_path(path)
    except m.ManifestError:
        return
    assert (Path("/root/tree") / path).is_relative_to("/root/tree")
    assert ".." not in Path(path).parts


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_noise_is_refused_as_such(noise: bytes) -> None:
    for parse in (m.parse_manifest, m.parse_pointer):
        with pytest.raises(m.ManifestError):
            parse(noise)


FILE = {"path": "main/__init__.py", "size": 3, "sha256": SHA, "version_id": "v1"}
LOCATION = {"name": "main", "module": "dags.main"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schema": 2}, "schema 2 is newer than 1.*update the container image"),
        ({"schema": "1"}, "schema '1' is not a version"),
        ({"schema": True}, "schema True is not a version"),
        ({"schema": 0}, "schema 0 is not a version"),
        ({"id": "0" * 16}, "does not belong to its content"),
        ({"id": "../../x"}, "id '../../x' is not 16 hex digits"),
        ({"id": 7}, "id 7 is not 16 hex digits"),
        ({"created_at": "yesterday"}, "created_at 'yesterday' is not a UTC time"),
        ({"created_at": "2026-01-31T12:00:00+01:00"}, "is not a UTC time"),
        ({"author": ""}, "author '' is not text, or empty"),
        ({"git_revision": 5}, "git_revision 5 is not text"),
        ({"surprise": 1}, "field 'surprise' is unknown"),
        ({"files": {}}, "files {} is not a list"),
        ({"files": ["main/a.py"]}, r"files\[0\]: a JSON object is expected"),
        ({"files": [FILE, FILE]}, "path 'main/__init__.py' is listed twice"),
        ({"files": [FILE | {"path": "../x"}]}, r"files\[0\]: path '../x' has the segment"),
        ({"files": [FILE | {"path": "/x"}]}, "is absolute"),
        ({"files": [FILE | {"path": None}]}, "path None is not text"),
        ({"files": [FILE, FILE | {"path": "main/__init__.py/x"}]}, "is a file and also the directory"),
        ({"files": [FILE | {"size": "3"}]}, "size '3' is not a number"),
        ({"files": [FILE | {"size": True}]}, "size True is not a number"),
        ({"files": [FILE | {"size": -1}]}, "size -1 is not a number"),
        ({"files": [FILE | {"size": 1.5}]}, "size 1.5 is not a number"),
        ({"files": [FILE | {"size": m.MAX_FILE_BYTES + 1}]}, "at most 33554432"),
        ({"files": [FILE | {"sha256": SHA.upper()}]}, "is not 64 hex digits"),
        ({"files": [FILE | {"version_id": "null"}]}, "stored without versioning"),
        ({"files": [FILE | {"version_id": ""}]}, "version_id '' is not text, or empty"),
        ({"files": [FILE | {"mode": "0755"}]}, "field 'mode' is unknown"),
        ({"files": [{"path": "a"}]}, "field 'sha256' is missing"),
        ({"files": [FILE | {"path": f"m/{i}", "size": m.MAX_FILE_BYTES} for i in range(33)]}, "files of "),
        ({"locations": [LOCATION, LOCATION]}, "location 'main' is listed twice"),
        ({"locations": [LOCATION | {"name": "a-b"}]}, "not a Python identifier"),
        ({"locations": [LOCATION | {"name": "x" * 41}]}, "41 characters, at most 40"),
        ({"locations": [LOCATION | {"module": "os.path"}]}, "not in the package 'dags'"),
        ({"locations": [LOCATION | {"module": "dags.main; x"}]}, "not a dotted module name"),
        ({"locations": [LOCATION | {"module": "dags.other"}]}, "other/__init__.py is not among the files"),
    ],
)
def test_refused_manifests(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(m.ManifestError, match=why):
        m.parse_manifest(document(**changes))


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "MAX_FILES", 1)
    with pytest.raises(m.ManifestError, match="2 files, at most 1"):
        m.parse_manifest(m.dump_manifest(build()))


def test_too_large_a_document_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m, "MAX_DOCUMENT_BYTES", 10)
    with pytest.raises(m.ManifestError, match="at most 10 are allowed"):
        m.parse_pointer(m.dump_pointer(POINTER))


def test_a_field_that_is_there_twice_is_refused() -> None:
    twice = m.dump_pointer(POINTER).replace(b'{"schema":1', b'{"author":"eve","schema":1')
    with pytest.raises(m.ManifestError, match="pointer: the field 'author' is there twice"):
        m.parse_pointer(twice)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schema": 2}, "pointer: schema 2 is newer"),
        ({"release": "current"}, "release 'current' is not 16 hex digits"),
        ({"release": None}, "release None is not"),
        ({"manifest_version_id": "null"}, "stored without versioning"),
        ({"previous": "x"}, "previous 'x' is not 16 hex digits or null"),
        ({"published_at": ""}, "not a UTC time"),
    ],
)
def test_refused_pointers(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(m.ManifestError, match=why):
        m.parse_pointer(json.dumps(json.loads(m.dump_pointer(POINTER)) | changes).encode())


def test_ansible_reads_the_same_file() -> None:
    link = ROOT / "plugins/module_utils/dag_manifest.py"
    assert link.is_symlink()
    assert not Path(link.readlink()).is_absolute()
    assert link.resolve() == Path(m.__file__).resolve()
