"""Runs the suite's own `wstest` with the packages of a folder; for Python 2.7.

    python2.7 wstest.py FOLDER -m fuzzingclient -s SPEC
"""

import site
import sys

# Not PYTHONPATH: zope.interface is found through the folder's .pth files only.
site.addsitedir(sys.argv.pop(1))

from autobahntestsuite.wstest import run  # noqa: E402

run()
