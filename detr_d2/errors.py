"""What the person in front of the screen can put right."""


class UserError(ValueError):
    """One sentence that names what is wrong and what to do; tools print it without a traceback."""


class MissingPackageError(UserError, ImportError):
    """A package has to be installed first; the sentence says how."""
