"""Hooks of the training loop, in MMDetection's registry."""

from ape_mmdet.hooks.progress import ProgressLineHook

__all__ = ['ProgressLineHook']
