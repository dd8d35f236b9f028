"""A small image made by hand: Debian's static busybox. It is the sandbox of every pod, and a shell for tests."""

import hashlib
import io
import json
import platform
import shutil
import tarfile
from pathlib import Path

NAME = "localhost/stenofleet-tools:1"
_PROGRAM = "busybox"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_APPLETS = ("sh", "sleep", "wget", "nslookup", "cat", "true", "false", "nc")


def write_archive(path: Path) -> Path:
    """Write it to *path* as a docker archive; returns *path*."""
    layer = _layer()
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Cmd": ["/bin/sleep", "infinity"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    identity = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": identity, "RepoTags": [NAME], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as archive:
        for name, data in (("manifest.json", manifest), (identity, config), ("layer.tar", layer)):
            _add(archive, name, data)
    return path


def _layer() -> bytes:
    program = shutil.which(_PROGRAM)
    assert program, f"{_PROGRAM} is not on this machine"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as layer:
        _add(layer, f"bin/{_PROGRAM}", Path(program).read_bytes())
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, _PROGRAM
            layer.addfile(link)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        layer.addfile(folder)
    return stream.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o755
    archive.addfile(member, io.BytesIO(data))
