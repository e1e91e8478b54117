"""Runs the checks of a test."""

import asyncio
import inspect
import sys


def same(actual, expected):
    if actual != expected:
        raise AssertionError(f"expected {expected!r:.300}, got {actual!r:.300}")


def run(name, checks):
    """Runs the checks in order, and then ends this process. An async check has 30 s."""
    failed = []
    for what, check in checks.items():
        try:
            if inspect.iscoroutinefunction(check):
                asyncio.run(asyncio.wait_for(check(), timeout=30))
            else:
                check()
            print(f"ok    {name}: {what}", flush=True)
        except Exception as error:
            print(f"FAIL  {name}: {what}: {type(error).__name__} {error}", flush=True)
            failed.append(what)
    if failed:
        print(f"{name}: {len(failed)} failed: {'; '.join(failed)}")
    sys.exit(1 if failed else 0)
