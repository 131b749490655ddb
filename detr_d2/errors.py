"""What the person in front of the screen can put right."""


class UserError(ValueError):
    """One sentence that names what is wrong and what to do; tools print it without a traceback."""
