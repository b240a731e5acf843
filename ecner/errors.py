"""Errors a user can act on: one message each (got, expected, what to do) and the exit status it ends with."""


class EcnerError(Exception):
    """Base of every error with a message meant for a user; ends a command with exit status 1."""

    exit_code = 1


class UsageError(EcnerError):
    """A wrong argument, setting or file that the user named; nothing was started. Exit status 2."""

    exit_code = 2


class DataError(EcnerError):
    """Input that could be opened but does not hold what was promised, such as a label file of another form."""


class RunError(EcnerError):
    """A run that started and could not end; its ledger row says why."""


class TransientError(RunError):
    """Something outside failed that may work a moment later: a lost connection, a lock, a busy store. Worth a retry."""


class LeaseError(RunError):
    """The warehouse is held by another run, or this run's hold on it was lost."""


class ModelError(EcnerError):
    """A model folder that is missing, incomplete or does not fit what is asked of it."""
