"""What can be wrong with keys.

SecurityError
├── KeyTextError        a text is no key
└── SecurityFileError   a key file, an allow-list or a security directory cannot be used; the message names it and says why
"""


class SecurityError(Exception):
    """Base of what this package raises."""


class KeyTextError(SecurityError):
    """A text is no key."""


class SecurityFileError(SecurityError):
    """A key file, an allow-list or a security directory cannot be used. The message names it and says why."""
