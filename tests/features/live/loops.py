"""Coroutines in a loop of their own."""

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_a_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """What it returns. In a thread, because a browser's test may have left a loop running in this
    one; in the context of who calls."""
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(contextvars.copy_context().run, asyncio.run, work).result()
