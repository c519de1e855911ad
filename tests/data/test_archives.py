import gzip
import io
import stat
import tarfile
import zipfile

import pytest

from rnnlab.data.archives import Member, extract, read_members

pytestmark = pytest.mark.promise("R19")

FILES = {"folder/a.txt": b"a" * 1000, "folder/deep/b.bin": bytes(range(256)), "empty": b""}


def make_zip(*members, compression=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, content) pairs."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return raw.getvalue()


def make_tar(*members, mode="w:gz"):
    """A tar of (name or TarInfo, content) pairs."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def zip_member(name, mode=0):
    info = zipfile.ZipInfo("name")
    info.filename = info.orig_filename = name  # the constructor cleans it
    info.external_attr = mode << 16
    return info


def tar_member(name, **fields):
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def encrypted():
    """A zip whose member says that it is encrypted."""
    content = bytearray(make_zip(("a", b"secret")))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def sparse():
    """A tar member of a hundred bytes that claims to be a gigabyte of zeros."""
    fields = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "big"}
    fields |= {"GNU.sparse.size": str(2**30), "GNU.sparse.map": "0,100"}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tar_member("big", pax_headers=fields, size=100)
        archive.addfile(info, io.BytesIO(b"x" * 100))
    return raw.getvalue()


def lying_zip():
    """A zip whose headers say 10 bytes where a million come."""
    content = bytearray(make_zip(("a", b"0" * 1_000_000)))
    central = content.index(b"PK\x01\x02")
    content[22:26] = content[central + 24 : central + 28] = (10).to_bytes(4, "little")
    return bytes(content)


LINK, DEVICE = stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666
HOSTILE = {
    "zip ..": (make_zip(("../evil", b"x")), "leads out"),
    "zip inner ..": (make_zip(("a/../../evil", b"x")), "leads out"),
    "tar ..": (make_tar(("../evil", b"x")), "leads out"),
    "zip absolute": (make_zip((zip_member("/evil"), b"x")), "is absolute"),
    "tar absolute": (make_tar(("/evil", b"x")), "is absolute"),
    "zip drive": (make_zip(("C:/evil", b"x")), "drive letter"),
    "zip backslash": (make_zip((zip_member("..\\evil"), b"x")), "backslash"),
    "tar backslash": (make_tar(("a\\b", b"x")), "backslash"),
    "zip control": (make_zip(("a\nb", b"x")), "control character"),
    "tar not text": (make_tar((b"a\xff".decode("utf-8", "surrogateescape"), b"")), "control"),
    "zip long": (make_zip(("a" * 256, b"x")), "over 255 bytes"),
    "tar deep": (make_tar(("a/" * 2001, b"x")), "over 4000 characters"),
    "zip no name": (make_zip((zip_member(""), b"x")), "expected a name"),
    "tar no name": (make_tar(("./", b"x")), "expected a name"),
    "zip symlink": (make_zip((zip_member("a", LINK), b"/etc/passwd")), "a link"),
    "tar symlink": (
        make_tar((tar_member("a", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")),
        "a link",
    ),
    "tar hard link": (
        make_tar((tar_member("a", type=tarfile.LNKTYPE, linkname="../b"), b"")),
        "a link",
    ),
    "zip device": (make_zip((zip_member("a", DEVICE), b"")), "a device"),
    "tar device": (make_tar((tar_member("a", type=tarfile.CHRTYPE), b"")), "a device"),
    "tar fifo": (make_tar((tar_member("a", type=tarfile.FIFOTYPE), b"")), "a device"),
    "tar sparse": (sparse(), "a device or the like"),
    "zip duplicate": (make_zip(("a/b", b"1"), ("a//b", b"2")), "another one has its name"),
    "zip other case": (make_zip(("a", b"1"), ("A", b"2")), "another one has its name"),
    "tar duplicate": (make_tar(("a", b"1"), ("./a", b"2")), "another one has its name"),
    "tar file as folder": (make_tar(("a", b"1"), ("A/b", b"2")), "another one has its name"),
    "tar folder as file": (make_tar(("a/b", b"1"), ("a", b"2")), "another one has its name"),
    "zip accent twice": (make_zip(("\u00e9", b"1"), ("e\u0301", b"2")), "another one has its name"),
    "zip encrypted": (encrypted(), "encrypted"),
    "zip bomb": (make_zip(("a", b"0" * 2_000_000)), "at most 1000000 bytes"),
    "zip bomb in parts": (
        make_zip(*((f"{i}", b"0" * 300_000) for i in range(4))),
        "at most 1000000 bytes",
    ),
    "tar bomb": (make_tar(("a", b"0" * 2_000_000)), "at most 1000000 bytes"),
    "tar bomb in a header": (
        make_tar((tar_member("a", pax_headers={"comment": "0" * 2_000_000}), b"")),
        "at most 1000000 bytes",
    ),
    "zip that lies": (lying_zip(), "cannot be read"),
    "too many": (make_zip(*((f"{i}", b"") for i in range(101))), "at most 100 members"),
}
LIMITS = {"max_bytes": 1_000_000, "max_members": 100}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_whole(tmp_path, name):
    archive, message = HOSTILE[name]
    with pytest.raises(ValueError, match=message):
        list(read_members(archive, **LIMITS))
    with pytest.raises(ValueError, match=message):
        extract(archive, tmp_path / "parent" / "target", **LIMITS)
    assert [path.name for path in tmp_path.rglob("*")] == ["parent"]


def test_nothing_is_unpacked_where_only_the_last_member_is_hostile(tmp_path):
    archive = make_tar(("good", b"x"), ("../evil", b"x"))
    with pytest.raises(ValueError, match=r"member '\.\./evil'"):
        extract(archive, tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


GOOD = {
    "zip": make_zip(("folder/", b""), *FILES.items()),
    "stored zip": make_zip(*FILES.items(), compression=zipfile.ZIP_STORED),
    "zip with ./": make_zip(*((f"./{name}", content) for name, content in FILES.items())),
    "tar": make_tar(*FILES.items(), mode="w"),
    "tar.gz": make_tar((tar_member("./", type=tarfile.DIRTYPE), b""), *FILES.items()),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_archive_comes_out_as_it_went_in(tmp_path, name):
    assert dict(read_members(GOOD[name])) == FILES
    (tmp_path / "archive").write_bytes(GOOD[name])
    paths = extract(tmp_path / "archive", tmp_path / "target")
    assert paths == [tmp_path / "target" / file for file in FILES]
    assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "target"]


def test_a_zip_of_exactly_the_limit_is_read():
    archive = make_zip(("a", b"0" * 700), ("b", b"0" * 300))
    assert len(list(read_members(archive, max_bytes=1000, max_members=2))) == 2
    with pytest.raises(ValueError, match="at most 999 bytes"):
        list(read_members(archive, max_bytes=999))


def test_permissions_of_the_archive_are_ignored(tmp_path):
    (path,) = extract(make_tar((tar_member("run", mode=0o4777), b"#!")), tmp_path / "target")
    assert not path.stat().st_mode & 0o7111


def test_members_come_one_after_another():
    archive = make_zip(("a", b"1"), ("../b", b"2"))
    members = read_members(archive)
    assert next(members) == Member("a", b"1")
    with pytest.raises(ValueError, match="leads out"):
        next(members)


@pytest.mark.parametrize("name", ["zip", "tar", "tar.gz"])
def test_a_cut_or_changed_archive_is_an_error(name):
    archive = GOOD[name]
    for end in range(0, len(archive), 97):
        if name == "tar" and not any(archive[end:]):
            continue  # all that is missing are zeros at the end
        with pytest.raises(ValueError, match=r"archive"):
            list(read_members(archive[:end]))
    for place in range(0, len(archive), 41):
        changed = bytearray(archive)
        changed[place] ^= 0x10
        try:
            found = dict(read_members(bytes(changed)))
        except ValueError:
            continue
        if name != "tar":  # whose content has no checksum
            assert sorted(found.values()) == sorted(FILES.values())


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "mine").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="target: expected a folder that does not exist"):
        extract(GOOD["zip"], tmp_path / "target")
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "mine"]


def test_what_is_no_archive(tmp_path):
    for content in (b"", b"<html>sorry</html>", gzip.compress(b"no tar")):
        with pytest.raises(ValueError, match=r"expected a whole zip, tar or tar\.gz file"):
            list(read_members(content))
    with pytest.raises(FileNotFoundError):
        list(read_members(tmp_path / "nowhere.zip"))
