"""What the exit status of a command says."""

DONE, SOME_FAILED, BAD_INPUT, CRASHED, INTERRUPTED = 0, 1, 2, 70, 130
