"""What the person in front of the screen can put right."""


class UserError(ValueError):
    """One sentence that names what is wrong and what to do; tools print it without a traceback."""


class MissingPackageError(UserError, ImportError):
    """A package has to be installed first; the sentence says how."""


_SHOWN = 5  # names of a list, before "and N more"


def some_of(names: list[str]) -> str:
    """The first names of a list, for a sentence, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
