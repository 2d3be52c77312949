# SPDX-License-Identifier: Apache-2.0
"""Metadata is in setup.cfg; here, what goes into a wheel beside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Puts configs and tools where OpenMMLab's packages have them.

    MMEngine and MIM look for them in the package's folder ``.mim``.
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # The clone has them.
        home = Path(self.build_lib, 'ape_mmdet', '.mim')
        shutil.rmtree(home, ignore_errors=True)
        for folder in ('configs', 'tools'):
            shutil.copytree(
                folder, home / folder, ignore=shutil.ignore_patterns('__pycache__')
            )
        shutil.copy('model-index.yml', home)


setup(cmdclass={'build_py': BuildWithConfigs})
