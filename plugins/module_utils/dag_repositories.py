"""Several repositories in one platform: what each of them owns of a release, and how its part is put into the whole.

A *named* repository owns code locations, with all files in their directories. What no named repository owns is the
platform's own: it belongs to who publishes without a name. Whoever publishes replaces what it owns and keeps the rest
as it is served, so nobody has to know of the others; who owns what is written in the manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .dag_manifest import (
    MAX_FILES,
    MAX_RELEASE_BYTES,
    CodeLocation,
    FileEntry,
    Manifest,
    Repository,
    validate_repository_name,
)
from .dag_tree import LocalFile, Tree, TreeError

PLATFORM = "the platform's own DAGs"
"""What belongs to no named repository, in messages."""

NOWHERE = Path()
"""The directory of files that are in S3 only."""

_UNSTAMPED = ("-", "-")
"""Author and time of a part that is not published yet."""


@dataclass(frozen=True)
class Owner:
    """Who publishes: the repository's name, "" for the platform's own, and whether it may take what is another's."""

    name: str = ""
    take_over: bool = False


@dataclass(frozen=True)
class Area:
    """What an owner answers for: the files in these directories of the tree's root, or everything but these."""

    directories: frozenset[str]
    all_but: bool = False

    def holds(self, path: str) -> bool:
        """Return whether a file of the tree is in it."""
        top, slash, _ = path.partition("/")
        return self.owns(top) if slash else self.all_but

    def owns(self, location: str) -> bool:
        """Return whether a code location is in it."""
        return (location in self.directories) != self.all_but


EVERYTHING = Area(frozenset(), all_but=True)


@dataclass(frozen=True)
class Whole:
    """A release as it would be: all files, code locations and owners, and which part of it is the publisher's."""

    tree: Tree
    repositories: tuple[Repository, ...] = ()
    area: Area = EVERYTHING


def own_part(tree: Tree) -> tuple[Tree, list[str]]:
    """Return what a named repository publishes of a directory, and what lies beside its code locations."""
    area = Area(frozenset(location.name for location in tree.locations))
    files = tuple(file for file in tree.files if area.holds(file.path))
    return replace(tree, files=files), [file.path for file in tree.files if not area.holds(file.path)]


def part_of(manifest: Manifest, name: str) -> Tree | None:
    """Return what a named repository has of a release, None if it has nothing of it. The files are not on this disk."""
    owner = next((each for each in manifest.repositories if each.name == name), None)
    if owner is None:
        return None
    area = Area(frozenset(owner.locations))
    return Tree(NOWHERE, _files(manifest, area), _locations(manifest, area))


def whole_of(manifest: Manifest) -> Whole:
    """Return a release as it was, with everybody's parts."""
    return Whole(Tree(NOWHERE, _files(manifest), _locations(manifest)), manifest.repositories)


def compose(own: Tree, served: Manifest | None, owner: Owner) -> Whole:
    """Put what ``owner`` publishes into what is served.

    Raises TreeError where it would take what belongs to another, or where the two cannot be in one tree.
    """
    repositories = served.repositories if served else ()
    owners = {location: each.name for each in repositories for location in each.locations}
    claimed = {location.name for location in own.locations}
    if owner.name:
        before = {location for location, name in owners.items() if name == owner.name}
        area = Area(frozenset(claimed | before))
        taken = sorted(claimed & (_directories(served.files if served else ()) - before))
    else:
        taken = sorted(owners.keys() & _directories(own.files))
        area = Area(frozenset(owners.keys() - set(taken)), all_but=True)
    if taken and not owner.take_over:
        raise TreeError(_not_yours(taken, owners, owner))
    kept = Area(area.directories, not area.all_but)
    rest = Tree(NOWHERE, _files(served, kept), _locations(served, kept)) if served else Tree(NOWHERE, (), ())
    whole = Tree(
        own.root,
        tuple(sorted((*own.files, *rest.files), key=lambda file: file.path)),
        tuple(sorted((*own.locations, *rest.locations), key=lambda location: location.name)),
    )
    _check_together(own, rest, whole)
    left = [
        replace(each, locations=tuple(name for name in each.locations if not area.owns(name))) for each in repositories
    ]
    if owner.name:
        left.append(Repository(owner.name, tuple(sorted(claimed)), None, *_UNSTAMPED))
    return Whole(whole, tuple(sorted((each for each in left if each.locations), key=lambda each: each.name)), area)


def same_part(owner: Owner, area: Area, one: Manifest | None, other: Manifest | None) -> bool:
    """Return whether two releases have the same of an owner: files with their versions, code locations.

    ``area`` is what it answers for; that of the platform's own is in each release what is nobody else's there.
    """

    def part(manifest: Manifest | None) -> Any:
        if manifest is None:
            return set(), (), {}
        owned = frozenset(name for each in manifest.repositories for name in each.locations)
        mine = area if owner.name or owner.take_over else Area(owned, all_but=True)
        owners = {name: each.name for each in manifest.repositories for name in each.locations if mine.owns(name)}
        return {file for file in manifest.files if mine.holds(file.path)}, _locations(manifest, mine), owners

    return bool(part(one) == part(other))


def checked_owner(name: str, take_over: bool = False) -> Owner:
    """Return the owner; raises ManifestError for a name that is none."""
    return Owner(validate_repository_name(name) if name else "", take_over)


def called(name: str | None) -> str:
    """Return what a repository is called in messages."""
    return f"the repository {name!r}" if name else PLATFORM


def _not_yours(taken: Sequence[str], owners: dict[str, str], owner: Owner) -> str:
    whose = "; ".join(f"{name!r} belongs to {called(owners.get(name))}" for name in taken)
    how = (
        "take it out of dags_repositories or dags_locations"
        if owner.name
        else "remove it from this directory or add it to .dagignore"
    )
    return (
        f"{whose}, not to {called(owner.name)}. Nothing was uploaded. Either {how}, or, if it is moving here for good, "
        "run the same command once with -e dag_release_take_over=true: nothing of it is down meanwhile."
    )


def _check_together(own: Tree, rest: Tree, whole: Tree) -> None:
    """Refuse what each for itself may be, and both together not."""
    mine = {location.name.lower(): location.name for location in own.locations}
    for location in rest.locations:
        if location.name.lower() in mine:
            raise TreeError(
                f"location {mine[location.name.lower()]!r} and {location.name!r}, which is another's, differ in case "
                "only. Rename it."
            )
    for some, many in ((own, rest), (rest, own)):
        names = {name for directory in _directories(many.files) for name in (directory, f"{directory}.py")}
        if both := sorted(names & {file.path for file in some.files}):
            raise TreeError(
                f"The file {both[0]!r} and the directory {both[0].removesuffix('.py')!r} cannot be in one tree, and "
                "one of them is another repository's. Rename yours."
            )
    size = sum(file.size for file in whole.files)
    if len(whole.files) > MAX_FILES or size > MAX_RELEASE_BYTES:
        raise TreeError(
            f"All repositories together have {len(whole.files)} files with {size} bytes; a release may have "
            f"{MAX_FILES} files with {MAX_RELEASE_BYTES} bytes. Leave out what is not code with .dagignore."
        )


def _directories(files: Iterable[LocalFile | FileEntry]) -> set[str]:
    """Return the names of the directories of the tree's root."""
    return {file.path.partition("/")[0] for file in files if "/" in file.path}


def _files(manifest: Manifest, area: Area = EVERYTHING) -> tuple[LocalFile, ...]:
    return tuple(LocalFile(file.path, file.size, file.sha256) for file in manifest.files if area.holds(file.path))


def _locations(manifest: Manifest, area: Area = EVERYTHING) -> tuple[CodeLocation, ...]:
    return tuple(location for location in manifest.locations if area.owns(location.name))
