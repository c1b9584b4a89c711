"""The copies on disk: staged beside their place, checked, made durable in groups, then renamed into it.

Everything here blocks and belongs in a worker thread. A final path only ever holds complete, checked bytes of one
version; a kill leaves at most a temporary file, which the next run sweeps.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ingest.errors import DamagedTransfer, DiskError, OtherFileSystem, UnsafePath
from ingest.model import LocalCopy, Verified
from ingest.plan.checks import Check, Hashed, Hasher
from ingest.store.directories import Directories, TakenByFile, disk_error
from ingest.store.durability import make_durable
from ingest.store.folding import TakenPlaces, traits_of
from ingest.store.mounts import are_one_mount
from ingest.store.names import on_disk
from ingest.store.partials import Partials
from ingest.store.paths import beside_namesake, is_place, require_place
from ingest.store.placing import Placing, Strangers
from ingest.store.regular import NotRegular, open_regular
from ingest.store.temporaries import Owner
from ingest.store.undo_log import Replaced, UndoLog
from ingest.store.writing import write_all
from ingest.system.failpoints import failpoint
from ingest.system.private_dirs import hand_over, make_directories

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20


class Staged(NamedTuple):
    """Checked bytes in a temporary file, not yet durable."""

    key: str
    temporary: str
    size: int
    digest: str
    verified: Verified


class Adopted(NamedTuple):
    """A file that stood in its place already, and was right when it was read: `stamp` tells whether it still is."""

    copy: LocalCopy
    stamp: tuple[int, int, int]


@dataclass
class FileStore:
    """Copies of one bucket under ``<data_dir>/<directory>``; temporaries under ``<data_dir>/.ingest/tmp``."""

    data_dir: Path
    directory: str
    """The bucket's own, below the data directory: of its name, unless another source has that."""
    strangers: Strangers = Strangers.NONE
    """What becomes of files in the way of copies that go elsewhere than into the data directory."""
    owner: Owner = field(init=False)
    """Whose temporary files are whose."""
    partials: Partials = field(init=False)
    """Temporary files of large objects."""
    undo_log: UndoLog = field(init=False)
    """The bytes of copies that are being replaced."""
    taken: TakenPlaces | None = field(init=False)
    """The places of present copies, which whoever publishes has to name first; None where no two names lead to one
    file."""
    placing: Placing = field(init=False)
    was_empty: bool = field(init=False)
    """No copy of this bucket was there when the store was opened."""
    _temporaries: int = field(init=False)
    _is_entered: bool = False
    """The entry of the bucket's own directory is durable."""
    _publishing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        try:
            own = self.data_dir / ".ingest" / "tmp"
            make_directories(own)
            with self._walking() as directories:
                copies = directories.at(self.directory, create=True)
                with os.scandir(copies) as entries:
                    self.was_empty = next(entries, None) is None
                self._temporaries = os.dup(directories.at(".ingest/tmp"))
                if not are_one_mount(copies, self._temporaries):
                    raise OtherFileSystem(f"{self.data_dir / self.directory} is on another file system than .ingest")
                traits = traits_of(copies)
            self.taken = TakenPlaces() if traits.folds else None
            self.placing = Placing(self.directory, self._temporaries, traits, self.taken, self.strangers)
            self.owner = Owner(self._temporaries)
            self.partials = Partials(self._temporaries, self.directory, self.owner)
            self.undo_log = UndoLog(self.data_dir, self.directory)
        except OSError as error:
            raise disk_error(error, str(self.data_dir)) from error
        except TakenByFile as error:
            raise UnsafePath(f"{self.data_dir}: a file stands where the tool needs a directory") from error

    def close(self) -> None:
        self.partials.close()
        self.owner.close()
        if self.taken is not None:
            self.taken.close()
        os.close(self._temporaries)

    def stage(self, key: str, body: Sequence[bytes | memoryview], found: Hashed) -> Staged:
        """A small object, which came in some chunks and was hashed: nothing is written unless it is right.

        Raises:
            DamagedTransfer: its digest is not what the server said. DiskError: the disk does not take it.
        """
        if found.verdict is None:
            said = f"{key!r}: received bytes that do not match what the server says of them"
            raise DamagedTransfer(said, digest=found.digest)
        try:
            temporary = self.owner.new_name()
            descriptor = os.open(temporary, _NEW, 0o640, dir_fd=self._temporaries)
        except OSError as error:
            raise disk_error(error, str(self.data_dir)) from error
        failpoint("staging.opened")
        try:
            try:
                hand_over(descriptor, self._temporaries)
                write_all(descriptor, body)
                failpoint("staging.written")
            finally:
                os.close(descriptor)
        except OSError as error:
            self._unlink(temporary)
            raise disk_error(error, temporary) from error
        failpoint("staging.finished")
        return Staged(key, temporary, sum(map(len, body)), found.digest, found.verdict)

    def publish(
        self, batch: Sequence[Staged], previous: Mapping[str, str], replaced: Sequence[Replaced] = ()
    ) -> dict[str, LocalCopy | DiskError]:
        """Makes the batch durable and renames it into place; `previous` maps keys to the path of an older copy.

        The order is the promise: the bytes are durable before a rename shows them, and the renames before this returns.
        The bytes of `replaced` copies stay at hand until `undo_log.drop`. A fault of one file is its own result.

        Raises:
            DiskError: the barrier failed, so nothing of the batch may be recorded.
        """
        with self._publishing, self._walking() as directories:
            # 1. The bytes, all at once: from here on a kill leaves only temporary files, which are swept.
            self._make_files_durable([staged.temporary for staged in batch])
            failpoint("batch.barrier-passed")
            # 2. What is replaced gets a second name, so that the next run can undo what follows: until the rows are
            #    committed, a file in its place is ahead of its row.
            replaced = self.placing.without_others(directories, replaced)
            if replaced:
                self.undo_log.keep(replaced)
            # 3. The renames. One that fails is one object's fault: the others are good.
            results: dict[str, LocalCopy | DiskError] = {}
            touched: set[str] = set()
            for staged in batch:
                try:
                    recorded = previous.get(staged.key)  # also an empty one, which is no place
                    wanted = recorded if recorded is not None else self.placing.first_path(staged.key)
                    path = self.placing.place(directories, staged.temporary, wanted)
                except DiskError as error:
                    results[staged.key] = error
                    self.discard(staged)
                    continue
                failpoint("batch.renamed")
                self.partials.release(staged.temporary)
                touched.add(path.rpartition("/")[0])
                results[staged.key] = LocalCopy(path, staged.digest, staged.verified, staged.size)
            failpoint("batch.all-renamed")
            # 4. The names: of the files, and of new directories in their parents. Then the rows may say "present".
            ancestors = {directory[:cut] for directory in touched for cut in _cuts(directory)}
            self._make_directories_durable(directories, ancestors if self._is_entered else ancestors | {""})
            self._is_entered = True
            failpoint("batch.directories-durable")
            return results

    def discard(self, staged: Staged) -> None:
        """Removes what was staged and is not wanted any more."""
        self._unlink(staged.temporary)
        self.partials.release(staged.temporary)

    def adopt(self, key: str, size: int, check: Check) -> Adopted | None:
        """The copy that a killed run left in place without a row; None unless every byte is right.

        It is nobody's yet: `keep_adopted` comes before its row.
        """
        path = self.placing.first_path(key)
        for form in (path,) if self.taken is None else (path, beside_namesake(path)):
            found = self.adopt_at(form, size, check)
            if found is not None and (self.taken is None or self.taken.claim(form)):
                return found
        return None

    def adopt_at(self, path: str, size: int, check: Check) -> Adopted | None:
        """The same of the file at `path`, whichever key's."""
        if check.algorithm is None:
            return None
        try:
            with self.open_copy(path) as descriptor:
                stamp = _stamp(descriptor)
                if os.fstat(descriptor).st_size != size:
                    return None
                hasher = _hash(descriptor, check)
        except (OSError, DiskError):
            return None
        if hasher.verdict() is not Verified.VERIFIED:
            return None
        return Adopted(LocalCopy(path, hasher.digest(), Verified.VERIFIED, size), stamp)

    def keep_adopted(self, adopted: Sequence[Adopted]) -> set[str]:
        """Makes these durable, as whoever left them may not have; returns the paths of those that stand as they were
        read. Another run may have replaced or removed one since.

        Raises:
            DiskError: the barrier failed, so nothing of the batch may be recorded.
        """
        standing: dict[str, str] = {}
        for copy, stamp in adopted:
            with suppress(OSError, UnsafePath), self.open_copy(copy.local_path) as descriptor:
                if _stamp(descriptor) == stamp:
                    standing[copy.local_path] = copy.local_path.rpartition("/")[0]
        with self._publishing, self._walking() as directories:

            def opened(path: str) -> int:
                parent, _, name = path.rpartition("/")
                return open_regular(on_disk(name), os.O_RDONLY, dir_fd=directories.at(parent))

            try:
                make_durable(standing, opened, self._temporaries)
            except OSError as error:
                raise disk_error(error, self.directory) from error
            ancestors = {directory[:cut] for directory in standing.values() for cut in _cuts(directory)}
            self._make_directories_durable(directories, ancestors | {""} if standing else ())
            return set(standing)

    @contextmanager
    def open_copy(self, local_path: str) -> Iterator[int]:
        """A descriptor to read a copy by.

        Raises:
            FileNotFoundError: it is not there. UnsafePath: no copy may lie there, or a symlink leads there.
        """
        require_place(local_path, self.directory)
        directory, _, name = local_path.rpartition("/")
        with self._walking() as directories:
            try:
                descriptor = open_regular(on_disk(name), os.O_RDONLY, dir_fd=directories.at(directory))
            except TakenByFile as error:
                raise FileNotFoundError(errno.ENOENT, "a file stands in its directory's place") from error
            except NotRegular as error:
                raise FileNotFoundError(errno.ENOENT, "not a regular file") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def remove(self, local_path: str) -> bool:
        """Unlinks a copy, and the directories that this leaves empty, not yet durably. Returns whether it was there.

        Raises:
            UnsafePath: a symlink or a directory stands in its place, or no copy may lie there; it is left alone.
            DiskError: it stays.
        """
        require_place(local_path, self.directory)
        directory, _, name = local_path.rpartition("/")
        with self._publishing, self._walking() as directories:
            try:
                parent = directories.at(directory)
                if not stat.S_ISREG(os.stat(on_disk(name), dir_fd=parent, follow_symlinks=False).st_mode):
                    raise UnsafePath(f"{local_path!r} is not a regular file, and is left alone")
                os.unlink(on_disk(name), dir_fd=parent)
            except (FileNotFoundError, TakenByFile):
                return False
            except OSError as error:
                raise disk_error(error, local_path) from error
            directories.remove_empty(directory)
            return True

    def make_removals_durable(self, local_paths: Collection[str]) -> None:
        """What was removed at these places stays removed, whatever happens now.

        Raises:
            DiskError: the disk did not take it.
        """
        with self._publishing, self._walking() as directories:
            left = {_nearest(directories, path) for path in local_paths if is_place(path, self.directory)}
            self._make_directories_durable(directories, left)

    def sweep(self, *, all_done: bool = False) -> int:
        """Removes temporary files of runs that are gone, but for the large ones that this run may go on with.

        `all_done` says that nothing is left to go on with. Returns how many. Nothing else is touched.
        """
        return self.partials.sweep(all_done=all_done) + self.owner.sweep()

    @contextmanager
    def _walking(self) -> Iterator[Directories]:
        """Descriptors for one operation of one thread; all closed at its end."""
        directories = Directories(str(self.data_dir))
        try:
            yield directories
        finally:
            directories.forget()

    def _unlink(self, temporary: str) -> None:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=self._temporaries)

    def _open_temporary(self, name: str) -> int:
        return open_regular(name, os.O_RDONLY, dir_fd=self._temporaries)

    def _make_files_durable(self, temporaries: Sequence[str]) -> None:
        try:
            make_durable(temporaries, self._open_temporary, self._temporaries)
        except OSError as error:
            raise disk_error(error, temporaries[0]) from error

    def _make_directories_durable(self, directories: Directories, paths: Collection[str]) -> None:
        def opened(path: str) -> int:
            return os.dup(directories.at(path))

        try:
            make_durable(paths, opened, self._temporaries, directories=True)
        except OSError as error:
            raise disk_error(error, self.directory) from error


def _stamp(descriptor: int) -> tuple[int, int, int]:
    found = os.fstat(descriptor)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _hash(descriptor: int, check: Check) -> Hasher:
    hasher = Hasher(check)
    while chunk := os.read(descriptor, _CHUNK):
        hasher.update(chunk)
    return hasher


def _nearest(directories: Directories, path: str) -> str:
    """The nearest directory above `path` that is there."""
    while path:
        path = path.rpartition("/")[0]
        try:
            directories.at(path)
        except (FileNotFoundError, TakenByFile, UnsafePath):
            continue
        break
    return path


def _cuts(directory: str) -> Iterator[int]:
    position = len(directory)
    while position > 0:
        yield position
        position = directory.rfind("/", 0, position)
