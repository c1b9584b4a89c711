"""This machine's side: the copies, the disk and the catalog."""

from __future__ import annotations

from typing import ClassVar

from ingest.errors.base import IngestError, SettingsError
from ingest.errors.exit_codes import ExitCode


class DamageFound(IngestError):
    """Copies on disk are missing, or are not the bytes that were downloaded. The log names each."""

    code = "damaged"
    exit_code = ExitCode.DAMAGED
    hint = "Run `ingest verify --repair` to download them again."
    after_repair: ClassVar[str] = (
        "The log says for each why it could not be repaired. What changed at its source is taken by the next `ingest "
        "sync`. A version that is gone there may be in a backup: keep the file that stands in its place, under another "
        "name, before anything is put there."
    )


class DiskError(IngestError):
    """The local disk failed: it cannot be read or written where the data directory is."""

    code = "disk"
    exit_code = ExitCode.DISK
    hint = "Check the data directory's file system and permissions, then run again; nothing recorded was lost."
    of_one_object: ClassVar[bool] = False
    """Whether it stands in the way of one object, and others may fare better."""


class DiskFull(DiskError):
    """The file system has no space, no inodes or no quota left."""

    code = "disk_full"
    hint = "Free space or inodes (see `ingest cleanup --dry-run`), then run again."


class TooManyFiles(DiskError):
    """This process may open no more files or connections."""

    code = "too_many_files"
    hint = "Raise the limit of open files (ulimit -n), or use fewer transfers (--transfers)."


class UnsafePath(DiskError):
    """A symlink or a foreign file stands where the tool would write."""

    code = "unsafe_path"
    of_one_object = True
    hint = "Remove what stands there, if it should not; symlinks below the data directory are never followed."


class NameRefused(DiskError):
    """This disk takes no file of this object's name, nor of its escaped forms."""

    code = "name_refused"
    exit_code = ExitCode.PARTIAL
    of_one_object = True
    hint = 'Keep the data directory on a file system that takes such names (see "Which disks" in docs/operations.md).'


class FileInTheWay(DiskError):
    """Where `restore --to` would write a copy, another file stands. It is left alone."""

    code = "file_in_the_way"
    exit_code = ExitCode.PARTIAL
    of_one_object = True
    hint = "Move it away, name another directory, or say --overwrite."


class TooLargeForDisk(DiskError):
    """This disk takes no file of this object's size: its own limit, or less room than the object needs."""

    code = "too_large_for_disk"
    exit_code = ExitCode.PARTIAL
    of_one_object = True
    hint = "Keep the data directory on a file system with room for such files; FAT has a limit of 4 GiB for each."


class DirectoryMissing(DiskError):
    """The data directory that the copies lie in is not there: its disk is not mounted, or it was removed."""

    code = "directory_missing"
    hint = (
        "Mount its disk, or correct INGEST_DATA_DIR, and run again; nothing was changed. If it is gone for good, or is "
        "to begin anew: `ingest source attach`."
    )


class DirectoryForeign(DiskError):
    """Another data directory than the one that the copies lie in."""

    code = "directory_foreign"
    hint = (
        "Correct INGEST_DATA_DIR or mount the right disk; nothing was changed. If the copies are to lie here from now "
        "on, or were moved here: `ingest source attach`."
    )


class NotesForeign(DiskError):
    """What a killed run left to be undone was written by another version of the tool, in words of its own."""

    code = "notes_foreign"
    hint = (
        "Run any command that writes (`ingest sync`) once with the version that was killed: it undoes what it left. "
        "Then go on with this one; nothing was changed."
    )


class OtherFileSystem(DiskError):
    """A directory of copies is a mount of its own, or its subvolume, where no file can be renamed to."""

    code = "other_file_system"
    of_one_object = True
    hint = "Mount the file system one level up, so that INGEST_DATA_DIR and its .ingest directory are on it as well."


class DatabaseError(IngestError):
    """The catalog's database cannot be reached, or did not do what it was asked."""

    code = "database"
    exit_code = ExitCode.DATABASE
    hint = "Check DATABASE_URL and that the database is up; nothing that was recorded is lost."


class DatabaseBusy(DatabaseError):
    """Another program held the database for longer than 30 seconds, or its transaction won."""

    code = "database_busy"
    retryable = True
    hint = "Another program holds the database; run again when it has ended."


class DatabaseLost(DatabaseError):
    """The connection to the database broke, and did not come back in time."""

    code = "database_lost"
    retryable = True


class DatabaseDataError(DatabaseError):
    """A value is one that the database cannot keep: out of range, too long, or no text. It is so each time."""

    code = "database_data"
    hint = "The database is up and well; what it was given is at fault. Report the line, with -v."


class DatabaseDamaged(DatabaseError):
    """The database's own files are damaged, or are none of a database. Nothing was written to them."""

    code = "database_damaged"
    hint = (
        'Keep the file as it is, and put the last backup in its place (docs/operations.md, "Back it up"). Without one, '
        "move it away: what it knew of pruned copies is lost then. If it never was a catalog, check DATABASE_URL."
    )


class DatabaseSilent(DatabaseLost):
    """The database, or the network to it, gives no answer: neither yes nor no, nor that the connection is over."""

    code = "database_silent"
    hint = (
        "Look at the database server's load and disk, and at firewalls in between; nothing that was recorded is lost. "
        "A slow server gets more time by ?command_timeout=SECONDS in DATABASE_URL (30 unless said)."
    )


class LockLost(DatabaseError):
    """The connection that held the lock of the run broke, and another run may have the lock now."""

    code = "lock_lost"
    hint = "Nothing was written since. See who holds it (`ingest runs`), and what ended the connection; then run again."


class DatabaseUnfit(DatabaseError):
    """The database is up, and no place for a catalog: its encoding, a pooler before it, or what is in it already."""

    code = "database_unfit"
    hint = "Give ingest a database of its own, as in docs/operations.md."


class SchemaMissing(DatabaseError):
    """The schema is missing or behind."""

    code = "schema_behind"
    hint = "Run `ingest db upgrade`."


class SchemaAhead(DatabaseError):
    """The database was migrated by a newer version of the tool."""

    code = "schema_ahead"
    hint = "Upgrade `ingest`; an older version never writes to a newer schema."


class CatalogWentBack(DatabaseError):
    """The database has forgotten what was recorded last: a standby took over, or a crash took what was not written."""

    code = "catalog_went_back"
    hint = (
        "The copies are safe, and nothing more was written. Run `ingest sync`: it looks at the whole bucket anew, "
        "takes up the copies that are right, and puts lost deliveries in line again. Holds that were placed last may "
        "be lost as well: see `ingest hold list`."
    )


class CatalogMissing(DatabaseError):
    """The catalog that the copies are recorded in is not where it was: it was removed or emptied."""

    code = "catalog_missing"
    hint = (
        "Put its backup back, or correct DATABASE_URL, and run again; nothing was changed. To begin a new catalog for "
        "the copies that are there: `ingest source attach`."
    )


class CatalogForeign(DatabaseError):
    """Another catalog than the one that the copies are recorded in."""

    code = "catalog_foreign"
    hint = (
        "Correct DATABASE_URL or INGEST_DATA_DIR; nothing was changed. If this catalog is to have these copies from "
        "now on: `ingest source attach`."
    )


class DirectoryTaken(SettingsError):
    """The directory that a new source's copies would lie in is another source's."""

    code = "directory_taken"
    hint = (
        "If the endpoint was renamed: `ingest source rename OLD NEW`. If it is another bucket of that name, give it a "
        "directory of its own: `ingest source attach --directory NAME`."
    )


class SourceUnknown(IngestError):
    """No source of the catalog is called so."""

    code = "unknown_source"
    hint = "`ingest source list` shows them all."


class RowNotFound(IngestError):
    """A key that the catalog does not hold."""

    code = "unknown_key"
    exit_code = ExitCode.FAILED
    hint = "`ingest status` shows what is recorded; `ingest ls PREFIX` what the bucket holds."
