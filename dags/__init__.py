"""Root of the DAG tree.

Every package directly below this one is a code location of its own, with a code server of its own: add a
directory with an `__init__.py` that defines one `Definitions` object, deploy, and it appears in the UI.
This file is imported before each of them, so keep it empty: an error here takes all locations down.
"""
