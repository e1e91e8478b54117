"""Runs the suite's `wstest` with the packages of a folder, under Python 2.7.

    python2.7 wstest.py FOLDER -m fuzzingclient -s SPEC
"""

import site
import sys

# PYTHONPATH would not work: zope.interface is only found through the folder's .pth files.
site.addsitedir(sys.argv.pop(1))

from autobahntestsuite.wstest import run  # noqa: E402

run()
