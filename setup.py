"""Build from an empty directory, which setup.cfg cannot express."""

import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class CleanBuild(build_py):
    """Builds without what an earlier build left, such as modules that are gone since."""

    def run(self) -> None:
        """Empty the directory, then build into it."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(cmdclass={"build_py": CleanBuild})
