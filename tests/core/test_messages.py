"""What nodes say: problems that name their fix."""

from onefold.core.messages import Problem


def test_a_reason_may_name_its_fix_behind_a_semicolon() -> None:
    assert Problem.of("the disk is full; free space", "file", "it is tried again") == Problem(
        "the disk is full", "file", "free space"
    )
    assert Problem.of("it was changed here", "file", "it is tried again") == Problem(
        "it was changed here", "file", "it is tried again"
    )
