"""Finds each copy its place, and renames it there: where the disk has no such name, or another key's copy stands, the
path has another form (`store.paths`).

Everything here blocks, and belongs in a worker thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from ingest.errors import DiskError, FileInTheWay, NameRefused, OtherFileSystem
from ingest.store.directories import REFUSALS, Directories, RefusedName, TakenByFile, disk_error, shown
from ingest.store.folding import Place, TakenPlaces, Traits, is_listed_so, sharing
from ingest.store.names import on_disk
from ingest.store.paths import (
    below_file,
    beside_directory,
    beside_namesake,
    encode_key,
    is_place,
    other_form,
    require_place,
    without_short_names,
)
from ingest.store.regular import same_bytes
from ingest.store.renaming import rename_to_none
from ingest.store.undo_log import Replaced

MOST_FORMS = 1_000
"""Of one path that are tried: more than a path has segments and a name letters."""
_TAKEN_BY_DIRECTORY = frozenset({errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY})


class Strangers(Enum):
    """What becomes of files that stand where a copy goes, and that no row tells of."""

    NONE = auto()
    """There are none: whatever stands in a place of the data directory is an earlier copy."""
    KEPT = auto()
    REPLACED = auto()


@dataclass(frozen=True)
class Placing:
    """The places of one bucket's copies. `taken` is None where no two names lead to one file."""

    directory: str
    """The bucket's own."""
    temporaries: int
    """A descriptor of the directory of the staged files."""
    traits: Traits
    taken: TakenPlaces | None
    strangers: Strangers = Strangers.NONE

    def first_path(self, key: str) -> str:
        """Where a copy goes that has no place yet, if nothing is in its way there."""
        path = f"{self.directory}/{encode_key(key)}"
        return without_short_names(path) if self.traits.short_names else path

    def place(self, directories: Directories, temporary: str, path: str) -> str:
        """Renames a staged file to `path`, or to the next of its forms that is free and a name here; says which.

        Raises:
            NameRefused: the disk takes none of them. UnsafePath: a symlink is in the way. DiskError: the disk failed.
            FileInTheWay: a stranger's file is, and is kept.
        """
        require_place(path, self.directory)
        wanted = path
        for _ in range(MOST_FORMS):
            path = self.free_path(directories, path)
            try:
                other = self._move(directories, temporary, path)
            except TakenByFile as taken:
                path = below_file(path, taken.depth)
            except OSError as error:
                path = self._next_form(directories, error, temporary, path)
            else:
                if other == path:
                    self._note(wanted, path)
                    return path
                path = other
        raise DiskError(f"{wanted}: no free name for it below {self.directory}")

    def free_path(self, directories: Directories, path: str) -> str:
        """The first form of `path` behind which no other key's present copy lies on this disk."""
        while self.taken is not None and sharing(directories, self.taken, path):
            path = beside_namesake(path)
        return path

    def without_others(self, directories: Directories, copies: Sequence[Replaced]) -> list[Replaced]:
        """What of these copies is about to be replaced where it lies, or brought back; and then to which place.

        A copy in another key's file goes elsewhere, and leaves that as it is.
        """
        if self.taken is None:
            return list(copies)
        found = []
        for copy in copies:
            path = self.free_path(directories, copy.local_path) if is_place(copy.local_path, self.directory) else ""
            if path in ("", copy.local_path) or not self.taken.has(copy.local_path):
                found.append(Replaced(copy.key, path or copy.local_path))
        return found

    def _move(self, directories: Directories, temporary: str, path: str) -> str:
        """Renames the file to the last name of `path`, and returns `path`; another form of it where that is another
        key's. Raises as `place`, and `OSError`."""
        directory, _, last = path.rpartition("/")
        parent, name = directories.at(directory, create=True), on_disk(last)
        if self.strangers is not Strangers.NONE and (found := _found(name, parent)) is not None:
            if stat.S_ISDIR(found.st_mode):
                return beside_directory(path)
            if stat.S_ISREG(found.st_mode) and same_bytes(temporary, self.temporaries, name, parent):
                os.unlink(temporary, dir_fd=self.temporaries)
                return path
            if self.traits.folds and not (self.traits.keeps_spelling and is_listed_so(directories, path)):
                return beside_namesake(path)  # another key's, or for all that can be told
            if self.strangers is Strangers.KEPT:
                raise in_the_way(path)
            parent = directories.at(directory)
        if self.strangers is Strangers.KEPT:
            rename_to_none(temporary, self.temporaries, name, parent)
        else:
            os.replace(temporary, name, src_dir_fd=self.temporaries, dst_dir_fd=parent)
        return path

    def _next_form(self, directories: Directories, error: OSError, temporary: str, path: str) -> str:
        """The path to be tried next, which may be the same.

        Raises:
            NameRefused: there is none. DiskError: it is no matter of the name.
        """
        if error.errno in _TAKEN_BY_DIRECTORY:
            return beside_directory(path)
        if error.errno == errno.EXDEV:
            raise OtherFileSystem(f"{path} is on another file system than .ingest") from error
        depth = error.depth if isinstance(error, RefusedName) else path.count("/")
        if depth and self._is_of_the_name(error, temporary):
            if self.taken is not None and error.errno == errno.ENOENT and directories.renew():
                return path
            form = other_form(path, depth, too_long=error.errno == errno.ENAMETOOLONG)
            if form is not None:
                return form
            if error.errno in REFUSALS:
                raise NameRefused(f"{shown(path)}: this disk refuses the name ({error.strerror})") from error
        raise disk_error(error, path) from error

    def _is_of_the_name(self, error: OSError, temporary: str) -> bool:
        """Or may be: then another form is refused as well."""
        if error.errno != errno.ENOENT or isinstance(error, RefusedName):
            return error.errno in REFUSALS or isinstance(error, PermissionError)
        try:
            os.stat(temporary, dir_fd=self.temporaries, follow_symlinks=False)
        except OSError:
            return False  # it is the staged file that is not there
        return True

    def _note(self, wanted: str, path: str) -> None:
        if self.taken is not None:
            if path != wanted:
                self.taken.drop(wanted)
            self.taken.add([Place(path, None)])


def in_the_way(path: str) -> FileInTheWay:
    return FileInTheWay(f"{shown(path)}: another file stands there, and is kept unless --overwrite is said")


def _found(name: str | bytes, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
