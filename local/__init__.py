"""The embedded default: AWS emulator, PostgreSQL and task runner on this machine, without Docker."""
