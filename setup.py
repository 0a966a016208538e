"""What setup.cfg cannot express: builds from an empty directory, and reproducible archives."""

import gzip
import os
import shutil
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

# The time of the files in a wheel and a source distribution: 2020-02-02, or what the builder says.
EPOCH = int(os.environ.setdefault("SOURCE_DATE_EPOCH", "1580601600"))

os.umask(0o022)


def _without_traces(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return a member without what differs between checkouts: its owner, time and mode."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = EPOCH
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


class CleanBuild(build_py):
    """Builds without what an earlier build left, such as modules that are gone since."""

    def run(self) -> None:
        """Empty the directory, then build into it."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class PlainWheel(bdist_wheel):
    """Makes a wheel whose files everyone may read, whatever the umask of the checkout was."""

    def egg2dist(self, egginfo_path: str, distinfo_path: str) -> None:
        """Write the metadata, which is the last step before the archive."""
        super().egg2dist(egginfo_path, distinfo_path)
        for path in Path(distinfo_path).parent.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)


class PlainArchive(sdist):
    """Makes a source distribution whose bytes depend on the files' names and contents alone."""

    def make_archive(self, base_name: str, *_: str, base_dir: str, **__: str) -> str:
        """Write the gzipped archive of a directory; return its path."""
        path = Path(f"{base_name}.tar.gz")
        with (
            path.open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=EPOCH) as compressed,
            tarfile.open(mode="w", fileobj=compressed, format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=_without_traces)
        return str(path)


setup(cmdclass={"bdist_wheel": PlainWheel, "build_py": CleanBuild, "sdist": PlainArchive})
