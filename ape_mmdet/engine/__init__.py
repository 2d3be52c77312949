# SPDX-License-Identifier: Apache-2.0
"""Running configs: what stands behind the scripts in ``tools/``.

Import light, so that a broken installation of MMDetection can be reported.
"""
