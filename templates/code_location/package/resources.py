"""Resources of this code location: everything outside of it that its assets use."""

import dagster as dg

LOCATION = __name__.split(".")[-2]
"""This package's name, which is the code location's."""


class Source(dg.ConfigurableResource):
    """Where the rows come from; put your database or API here. Tests put something else in its place."""

    rows_a_day: int = 3

    def fetch(self, day: str) -> list[int]:
        """Return the rows of a day, given as YYYY-MM-DD."""
        return [len(day) + number for number in range(self.rows_a_day)]
