"""The demonstration: the whole path on synthetic patients, and a report of what it showed."""
