"""axe-core for tests: the rules of WCAG that a program can check in a page, from one package of npm.

Touches: a cache folder outside the checkout, the package index (through npm, once). Needs no root. Nothing of the
package is run on this machine but in the browser of the tests.

    python -m tests.testbed.axe        fetch, and print the script
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.testbed.go_build import cache_folder, locked

PACKAGE = "axe-core@4.14.1"
SHA256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
"""Of the archive."""
_MEMBER = "package/axe.min.js"


class Unavailable(RuntimeError):
    """The script is not in the cache and could not be fetched."""


def fetch() -> Path:
    """The script; downloads 3 MB unless an earlier call has. Raises :class:`Unavailable` with the reason."""
    cache = cache_folder() / f"axe-{SHA256[:16]}"
    done = cache / "axe.min.js"
    if done.is_file():
        return done
    with locked(cache / "lock"):
        # Two test workers may come here at the same time; the second finds the finished file.
        if not done.is_file():
            fresh = cache / "unpacking"
            fresh.write_bytes(_downloaded())
            fresh.rename(done)
    return done


def _downloaded() -> bytes:
    print(f"testbed: downloading {PACKAGE} (once)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="stenofleet-axe-") as folder:
        command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder, PACKAGE]
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise Unavailable("npm is not installed: `sh .ci/need page` installs it on Debian") from error
        if done.returncode:
            raise Unavailable(f"{PACKAGE} could not be downloaded with npm:\n{done.stderr[-2000:].strip()}")
        (archive,) = Path(folder).glob("*.tgz")
        return unpacked(archive)


def unpacked(archive: Path) -> bytes:
    """The script in an archive of the package. Raises :class:`Unavailable` if it is another archive."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        raise Unavailable(f"{PACKAGE} has sha256 {found} instead of {SHA256}")
    with tarfile.open(archive) as members:
        script = members.extractfile(_MEMBER)
        assert script
        return script.read()


def main() -> None:
    """Print the path of the script, or the reason why there is none."""
    try:
        print(fetch())
    except Unavailable as error:
        sys.exit(f"testbed: {error}")


if __name__ == "__main__":
    main()
