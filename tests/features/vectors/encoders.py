"""Encoders that workers import."""

import os
from pathlib import Path
from typing import Any

import numpy as np


class Where:
    """First letter, and the process that it was seen in."""

    name, version, dimensions = "where", "1", 2

    def encode(self, texts: list[str]) -> Any:
        return np.array([[ord(text[0]), os.getpid()] for text in texts], np.float64)


class Broken(Where):
    """Fails."""

    name = "broken"

    def encode(self, texts: list[str]) -> Any:
        raise OSError("the model has a bug")


class Dying(Where):
    """Takes its process with it, some times."""

    name = "dying"

    def __init__(self, mark: str, times: int) -> None:
        self.mark, self.times = mark, times

    def encode(self, texts: list[str]) -> Any:
        mark = Path(self.mark)
        died = mark.read_text() if mark.exists() else ""
        if len(died) < self.times:
            mark.write_text(died + "x")
            os._exit(1)
        return np.array([[ord(text[0]), ord(text[0])] for text in texts], np.float32)


class Letters:
    """An encoder whose vectors count letters."""

    def __init__(self, name: str = "mine", version: str = "1", dimensions: int = 3) -> None:
        self.name, self.version, self.dimensions = name, version, dimensions

    def encode(self, texts: list[str]) -> Any:
        return np.array([[len(t) + 1, *[1] * (self.dimensions - 1)] for t in texts], np.float32)
