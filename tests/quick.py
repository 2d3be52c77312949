# SPDX-License-Identifier: Apache-2.0
"""What costs every training seconds and is none of what is tested, done once.

Importing this imports what the tools import. The processes of ``commands`` are forked
from one that has.
"""

import gc
from functools import cache

import mmdet.apis  # noqa: F401
import mmengine.config.utils
import mmengine.runner.runner
from mmengine.utils.dl_utils import collect_env
from yapf.yapflib import yapf_api

import ape_mmdet.visualization  # noqa: F401

# MMEngine lays a config out as Python for every checkpoint and log.
yapf_api.FormatCode = lambda text, **_: (text, True)
# For a config of MMDetection as a base, it reads the index of all of them.
mmengine.config.utils.load = cache(mmengine.config.utils.load)
# It asks compilers for their versions.
mmengine.runner.runner.collect_env = cache(collect_env)

mmengine.runner.runner.collect_env()
# What is there is not looked through, nor copied to a forked process for that.
gc.freeze()
