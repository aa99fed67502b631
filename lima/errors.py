"""Every error that a user can meet, as one tree.

    LimaError                    exit code 1: the run failed
    ├── InputError               exit code 2: bad usage or bad input
    │   ├── SpecError            a spec, a recipe or an override
    │   ├── DataError            examples, prompts, a table on storage
    │   ├── ModelError           a model or a tokenizer
    │   ├── ChangedInputError    an input is not what the run was promised
    │   └── HeldError            another process works on the run
    ├── NotReadyError            exit code 1: another run has to come first
    ├── EndpointError            exit code 1: a judge or a baseline refuses the whole run
    ├── EngineDiedError          exit code 1: the process of an engine ended; its worker goes too
    ├── Interrupted              exit code 1: stopped on request, all finished work is kept
    ├── StorageError             exit code 3: storage could not be reached or written
    │   ├── NoAnswerError        storage is away: that it refuses, or lacks something, is an answer
    │   └── BucketError          exit code 2: there is no such bucket, which is bad input too
    ├── HubError                 exit code 3: a hub of models does not answer
    └── ClusterError             exit code 3: the cluster could not be reached, or refuses

A message says what is wrong, where, and what to do.
"""

LONGEST_REASON = 1000
"""Characters of another library's message that ours repeats."""


class LimaError(Exception):
    """The run failed."""

    exit_code = 1


class InputError(LimaError):
    """What the user gave cannot be used."""

    exit_code = 2


class SpecError(InputError):
    """A spec, a recipe name or an override is wrong."""


class DataError(InputError):
    """Examples, prompts or a table on storage are unusable."""


class ModelError(InputError):
    """A model or a tokenizer cannot be used as asked."""


class ChangedInputError(InputError):
    """An input holds something else than what the run was submitted with."""


class HeldError(InputError):
    """Another process works on the run."""


class NotReadyError(LimaError):
    """What the run stands on is not there yet: the same works once another run is done."""


class EndpointError(LimaError):
    """An endpoint, a judge's or a baseline's, refuses everything: asking on is pointless."""


class EngineDiedError(LimaError):
    """The process in which an engine computes has ended; the worker that has it is of no use."""


class Interrupted(LimaError):  # noqa: N818 - the field's word (KeyboardInterrupt, Preempted)
    """The run was asked to stop; what it finished is on storage."""


class StorageError(LimaError):
    """Storage could not be reached, read or written."""

    exit_code = 3


class NoAnswerError(StorageError):
    """Storage gave no answer: the same may work in a while."""


class HubError(LimaError):
    """A hub of models does not answer."""

    exit_code = 3


class BucketError(StorageError, InputError):
    """Storage answers, and has no such bucket: trying again is in vain."""

    exit_code = 2


class ClusterError(LimaError):
    """The cluster could not be reached, refuses, or lacks an operator."""

    exit_code = 3


def whole_reason(error: BaseException) -> str:
    """Return all that another library's error says, in one line: the point may stand anywhere."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"
