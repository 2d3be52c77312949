# SPDX-License-Identifier: Apache-2.0
"""Getting data sets: what stands behind ``tools/prepare_data.py``.

Needs Pillow and rich, and neither torch nor MMDetection.
"""
