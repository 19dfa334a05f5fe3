"""Registers the environment type "wambench" with LeRobot, which imports this package by itself."""

from wambench.lerobot import config as config
