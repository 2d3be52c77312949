# SPDX-License-Identifier: Apache-2.0
"""The two ways in which the losses are computed."""

from ape_mmdet.ranking import near_linear, reference

METHODS = {'near-linear': near_linear, 'reference': reference}
