"""Download the files of a data set from Hugging Face, ModelScope or plain addresses into the cache.

Only data files are loaded: no script that lies beside them is run, nothing is unpickled, and no file leaves its folder.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import date
from hashlib import sha1
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from medcli.core.atomic import sha256_of, storage_error, writing
from medcli.core.errors import DataError, ServiceError, StorageError
from medcli.core.report import Report
from medcli.steps.list_remote import Listing, Remote, RemoteFile, list_files, refusals_explained, terms_of

RECORD = ".downloaded.json"
_ROOM = 1 << 26  # bytes that stay free on the disk


def fetch(remote: Remote, hub: str, report: Report) -> Path:
    """The folder with the files of a data set, downloaded where they are not there yet or have changed.

    `hub` is "huggingface", "modelscope", "url", or "auto": the first of them that can be reached. Without a network,
    what was downloaded whole before is taken. Raises ServiceError, DataError, UsageError or StorageError.
    """
    import filelock

    from medcli.core.download import Unreachable

    place = remote.folder
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, place) from error
    with filelock.FileLock(place.with_name(f"{place.name}.lock")):
        record = read_record(place)
        try:
            listing = list_files(remote, hub, report)
        except Unreachable as error:
            if not record or not all(_is_whole(place, row) for row in record["files"]):
                raise
            report.note(f"{error.message}; the files downloaded on {record['date']} are taken")
            return place
        try:
            _load_missing(remote, listing, record, report)
        except KeyboardInterrupt:
            report.note("what has arrived is kept: the same command goes on from there")
            raise
    return place


def plan_rows(remote: Remote, hub: str, report: Report) -> list[tuple[str, Any, str]]:
    """(what, value, origin) for `--plan`: nothing is downloaded, and no network is no error."""
    try:
        listing = list_files(remote, hub, report)
    except ServiceError as error:
        return [("would download", remote.page, f"not listed: {error.message}"), ("terms", terms_of(remote, ""), "")]
    record = read_record(remote.folder)
    missing = [file for file in listing.files if not _is_here(remote.folder, record, file)]
    size = sum(file.size or 0 for file in missing)
    what = f"{len(missing)} of {len(listing.files)} files, {size_in_words(size)}"
    return [("would download", what, listing.source), ("terms", terms_of(remote, listing.licence), remote.page)]


def size_in_words(size: int) -> str:
    """Bytes as kB or MB."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


def read_record(place: Path) -> dict[str, Any]:
    """What was downloaded into a folder: source, date, and files with size and SHA-256; {} when nothing was."""
    path = place / RECORD
    if not path.is_file():
        return {}
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: {error}", hint="remove this file; what it lists is then downloaded anew") from error
    return record


def _load_missing(remote: Remote, listing: Listing, record: dict[str, Any], report: Report) -> None:
    """Download what is not there, record each file once it is whole, and remove what the source has no more."""
    place = remote.folder
    rows = {row["path"]: row for row in record.get("files", ())}
    missing = [file for file in listing.files if not _is_here(place, record, file)]
    kept = {file.path: rows[file.path] for file in listing.files if file not in missing}
    if missing:
        report.note(f"{remote.name}: {terms_of(remote, listing.licence)}; see {remote.page}")
        _check_room(place, missing)
        total = sum(file.size or 0 for file in missing)
        report.stage(f"downloading {remote.name} from {urlsplit(listing.source).netloc}", total or None, "bytes")
    done = 0
    for file in missing:
        with refusals_explained(remote):
            kept[file.path] = _load(listing, file, place / file.path, _further(report, done))
        done += kept[file.path]["size"]
        _write_record(place, listing, kept)
    for path in set(rows) - set(kept):
        (place / path).unlink(missing_ok=True)
    if not missing:
        report.note(f"{remote.name}: {len(kept)} files are there already, as {listing.source} has them")


def _further(report: Report, done: int) -> Callable[[int], None]:
    return lambda there: report.advance(done + there)


def _load(listing: Listing, file: RemoteFile, target: Path, advance: Callable[[int], None]) -> dict[str, Any]:
    """Download one file, check it, and give its row for the record; raises DataError when it is not what was listed."""
    from medcli.core.download import Address, download

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, target.parent) from error
    download(Address(url=file.url, secrets=listing.secrets), target, file.size, advance)
    digest = sha256_of(target)
    kind, _, value = file.identity.partition(":")
    found = {"sha256": digest, "git": _git_hash(target) if kind == "git" else ""}.get(kind, value)
    if found != value:
        target.unlink()
        raise DataError(
            f"{file.url}: arrived damaged: its {kind} hash is {found}, the source says {value}",
            hint="run the same command again: it is loaded anew",
        )
    size = target.stat().st_size
    return {"path": file.path, "url": file.url, "size": size, "sha256": digest, "identity": file.identity}


def _write_record(place: Path, listing: Listing, rows: Mapping[str, Any]) -> None:
    record = {"source": listing.source, "date": date.today().isoformat(), "files": list(rows.values())}
    with writing(place / RECORD) as file:
        json.dump(record, file, ensure_ascii=False, indent=1)


def _git_hash(path: Path) -> str:
    """The hash that git gives a file: SHA-1 of "blob SIZE", a zero byte and the content."""
    content = path.read_bytes()
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _is_here(place: Path, record: Mapping[str, Any], file: RemoteFile) -> bool:
    rows = [row for row in record.get("files", ()) if row["path"] == file.path]
    return any(file.identity in (row["identity"], f"sha256:{row['sha256']}") and _is_whole(place, row) for row in rows)


def _is_whole(place: Path, row: Mapping[str, Any]) -> bool:
    path = place / row["path"]
    return path.is_file() and (path.stat().st_size, sha256_of(path)) == (row["size"], row["sha256"])


def _check_room(place: Path, missing: list[RemoteFile]) -> None:
    from medcli.core.download import part_of

    parts = [part_of(place / file.path) for file in missing]
    needed = sum(file.size or 0 for file in missing) - sum(part.stat().st_size for part in parts if part.is_file())
    free = shutil.disk_usage(place).free
    if needed + _ROOM > free:
        raise StorageError(
            f"{place}: {needed:,} bytes are still to come, and {free:,} are free on this disk",
            hint="free some room, or move the cache: export MED_CACHE=/a/larger/disk",
        )
