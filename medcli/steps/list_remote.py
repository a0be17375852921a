"""What files a data set has on Hugging Face, on ModelScope, or at plain addresses."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath
from posixpath import commonpath
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from medcli.core.dataset_info import FILE as REGISTRY
from medcli.core.errors import DataError, ServiceError, UsageError
from medcli.core.known_datasets import KnownDataset
from medcli.core.raw import DATA_SUFFIXES, matches
from medcli.core.raw_archive import is_archive
from medcli.core.report import Report
from medcli.core.settings import folder, variable_of_others

_PAGE = 100  # files that ModelScope lists at once
_SAID = {
    "yes": "commercial use is allowed",
    "no": "no commercial use",
    "unknown": "ask its owners about commercial use",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A data set that can be downloaded: ids on hubs, or addresses of files.

    `name` is its folder in the cache, `page` is for people, `files` are patterns; none stands for every data file.
    """

    name: str
    page: str
    files: tuple[str, ...] = ()
    hub: str = ""
    modelscope: str = ""
    urls: tuple[str, ...] = ()
    licence: str = "unknown"
    commercial: str = "unknown"

    @property
    def folder(self) -> Path:
        """Where its files are kept."""
        return folder("cache") / "downloads" / self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file at its source. `identity` is "sha256:…", "git:…" (the hash of a git blob) or "mark:…" (an ETag)."""

    path: str
    url: str
    size: int | None
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a data set at one source. `secrets` are the headers that prove who asks."""

    source: str
    files: tuple[RemoteFile, ...]
    licence: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict)


def remote_of(known: KnownDataset) -> Remote | None:
    """Where a known data set is downloaded from; None when its owners do not let it be."""
    if not (known.hub or known.modelscope or known.urls):
        return None
    return Remote(
        name=known.name,
        page=known.url,
        files=known.files,
        hub=known.hub,
        modelscope=known.modelscope,
        urls=known.urls,
        licence=known.licence,
        commercial=known.commercial,
    )


def list_files(remote: Remote, hub: str, report: Report) -> Listing:
    """The files of `remote` at the first of its sources that answers; raises ServiceError, DataError or UsageError."""
    from medcli.core.download import Unreachable

    every = {"huggingface": remote.hub, "url": remote.urls, "modelscope": remote.modelscope}
    names = [name for name, there in every.items() if there and hub in ("auto", name)]
    if not names:
        there = [name for name, place in every.items() if place]
        raise UsageError(
            f"{remote.name} cannot be downloaded from {hub}", hint=f"it can with --hub {' or '.join(there)}"
        )
    for name in names:
        try:
            with refusals_explained(remote):
                return _chosen(remote, _LISTERS[name](remote))
        except (KeyError, TypeError, AttributeError) as error:
            raise ServiceError(
                f"{remote.name}: the list of files from {name} has not the form it should have: {error!r}",
                hint="a proxy or a mirror may have answered: try another --hub, or another HF_ENDPOINT",
            ) from error
        except Unreachable as error:
            if name == names[-1]:
                raise Unreachable(error.message, hint=_when_unreachable(remote)) from error
            report.note(f"{error.message}; {names[names.index(name) + 1]} is tried")
    raise AssertionError("the last source lists or raises")


@contextmanager
def refusals_explained(remote: Remote) -> Iterator[None]:
    """Say what a status means to someone who wants a data set."""
    from medcli.core.download import RefusedByServer

    try:
        yield
    except RefusedByServer as error:
        hints = {
            401: f"open {remote.page}, accept its terms, then set HF_TOKEN (ModelScope: MODELSCOPE_API_TOKEN)",
            403: f"your token may not read it: open {remote.page} and accept its terms, or ask its owners",
            404: f"it was moved or removed: see {remote.page}",
            429: "too many requests: wait some minutes, or set HF_TOKEN",
        }
        hint = hints.get(error.status, "the server has a fault: try again later, or another --hub")
        raise ServiceError(f"{remote.name}: {error.message}", hint=hint) from error


def _when_unreachable(remote: Remote) -> str:
    mirror = "a mirror of Hugging Face: export HF_ENDPOINT=https://hf-mirror.com\n" if remote.hub else ""
    return (
        f"check the network, or name a proxy: export HTTPS_PROXY=http://HOST:PORT\n{mirror}"
        f"or get the files from {remote.page} elsewhere, then: med data build {remote.name} --raw DIR"
    )


def _endpoint(address: str, variable: str) -> str:
    if not address.startswith(("http://", "https://")):
        raise UsageError(f"{variable} is {address!r}, which is no web address", hint="write https://…")
    return address.rstrip("/")


def terms_of(remote: Remote, hub_says: str) -> str:
    licence = remote.licence if remote.licence != "unknown" else hub_says or "unknown"
    return f"licence {licence}; {_SAID[remote.commercial]}"


def _chosen(remote: Remote, listing: Listing) -> Listing:
    """The listing of the wanted data files alone; raises ServiceError for a path that leads out of the folder."""
    for file in listing.files:
        _check_path(listing.source, file.path)
    there = [file for file in listing.files if not any(part.startswith(".") for part in PurePosixPath(file.path).parts)]
    wanted = [file for file in there if matches(file.path, remote.files)]
    readable = tuple(file for file in wanted if _is_readable(file.path))
    if readable:
        return replace(listing, files=readable)
    names = ", ".join(file.path for file in (wanted or there)[:8]) or "nothing"
    if wanted and remote.files:
        raise DataError(
            f"{listing.source}: {remote.name} lies there in a form that med does not read: {names}",
            hint=f"write its rows as .jsonl or .csv yourself, then: med data build {remote.name} --raw FILE",
        )
    raise DataError(
        f"{listing.source} has no data file of {remote.name}: looked for {', '.join(remote.files) or 'any'}",
        hint=f"there is {names}",
    )


def _is_readable(path: str) -> bool:
    """Whether it is data; a registry of data sets is none, for what a server says in it would be believed."""
    if PurePosixPath(path).name.lower() == REGISTRY:
        return False
    return is_archive(path) or path.lower().removesuffix(".gz").endswith(DATA_SUFFIXES)


def _check_path(source: str, path: str) -> None:
    """Names come from a server: none may lead out of the folder, or be no name at all."""
    pure = PurePosixPath(path)
    if not path.strip() or pure.is_absolute() or ".." in pure.parts or "\\" in path or not path.isprintable():
        raise ServiceError(
            f"{source} names a file {path!r}, which would leave its folder",
            hint="nothing of it is downloaded: tell its owners",
        )


def _of_hugging_face(remote: Remote) -> Listing:
    """https://huggingface.co/docs/hub/api: the revision of `main`, then its tree, page by page."""
    from huggingface_hub import get_token

    from medcli.core.download import Address, get_json

    base = _endpoint(variable_of_others("HF_ENDPOINT") or "https://huggingface.co", "HF_ENDPOINT")
    token = get_token()
    secrets = {"Authorization": f"Bearer {token}"} if token else {}
    about, _ = get_json(Address(url=f"{base}/api/datasets/{remote.hub}/revision/main", secrets=secrets))
    tree = f"{base}/api/datasets/{remote.hub}/tree/{about['sha']}"
    files: list[RemoteFile] = []
    following = "?recursive=true"
    while following:
        page, following = get_json(Address(url=tree + following, secrets=secrets))
        following = following and f"?{urlsplit(following).query}"  # a mirror's pages name the hub that it mirrors
        files += [
            RemoteFile(
                path=row["path"],
                url=f"{base}/datasets/{remote.hub}/resolve/{about['sha']}/{quote(row['path'])}",
                size=row["size"],
                identity=f"sha256:{row['lfs']['oid']}" if row.get("lfs") else f"git:{row['oid']}",
            )
            for row in page
            if row["type"] == "file"
        ]
    licence = (about.get("cardData") or {}).get("license") or ""
    return Listing(
        source=f"{base}/datasets/{remote.hub}/tree/{about['sha']}",
        files=tuple(files),
        licence=licence if isinstance(licence, str) else ", ".join(map(str, licence)),
        secrets=secrets,
    )


def _of_modelscope(remote: Remote) -> Listing:
    """The calls that ModelScope's own library makes: the number of the data set, then its tree, page by page."""
    from medcli.core.download import Address

    domain = variable_of_others("MODELSCOPE_DOMAIN") or "www.modelscope.cn"
    base = _endpoint(domain if "://" in domain else f"https://{domain}", "MODELSCOPE_DOMAIN")
    token = variable_of_others("MODELSCOPE_API_TOKEN")
    secrets = {"Cookie": f"m_session_id={token}"} if token else {}
    number = _modelscope_data(Address(url=f"{base}/api/v1/datasets/{remote.modelscope}", secrets=secrets))["Id"]
    rows: dict[str, Mapping[str, Any]] = {}
    for page_number in count(1):
        asked = {"Revision": "master", "Recursive": True, "PageNumber": page_number, "PageSize": _PAGE}
        tree = f"{base}/api/v1/datasets/{number}/repo/tree?{urlencode(asked)}"
        page = {row["Path"]: row for row in _modelscope_data(Address(url=tree, secrets=secrets)).get("Files") or []}
        if len(page) < _PAGE or page.keys() <= rows.keys():
            rows |= page
            break
        rows |= page
    files = [
        RemoteFile(
            path=row["Path"],
            url=f"{base}/api/v1/datasets/{remote.modelscope}/repo?"
            + urlencode({"Source": "SDK", "Revision": "master", "FilePath": row["Path"]}),
            size=row["Size"],
            identity=f"sha256:{row['Sha256']}" if row.get("Sha256") else f"mark:{row['Size']}",
        )
        for row in rows.values()
        if row["Type"] != "tree"
    ]
    return Listing(source=f"{base}/datasets/{remote.modelscope}", files=tuple(files), secrets=secrets)


def _modelscope_data(address: Any) -> dict[str, Any]:
    from medcli.core.download import get_json

    answer, _ = get_json(address)
    if answer.get("Code") != 200 or not isinstance(answer.get("Data"), dict):
        raise ServiceError(f"{address.url}: ModelScope says {answer.get('Message') or answer}")
    data: dict[str, Any] = answer["Data"]
    return data


def _of_urls(remote: Remote) -> Listing:
    """Plain addresses: each is asked for its size and its version; files keep the folders in which they differ."""
    from medcli.core.download import Address, head_of

    places = {url: PurePosixPath(unquote(urlsplit(url).path)) for url in remote.urls}
    common = commonpath([place.parent for place in places.values()])
    files = []
    for url, place in places.items():
        size, mark = head_of(Address(url=url))
        path = place.relative_to(common).as_posix()
        files.append(RemoteFile(path=path, url=url, size=size, identity=f"mark:{mark or size}"))
    return Listing(source=remote.urls[0].rpartition("/")[0], files=tuple(files))


_LISTERS = {"huggingface": _of_hugging_face, "modelscope": _of_modelscope, "url": _of_urls}
